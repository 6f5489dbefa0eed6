// The frequencies of rotary embeddings.
#pragma once

#include <vector>

#include "model/decoder_spec.h"

namespace lockstep {

// inv_freq[i] for i < dims / 2, in f32 as the reference models hold them.
// Source: Su et al. 2021 (theta^(-2i/dims)); Peng et al. 2023, YaRN; the llama3 rule of Llama 3.1.
std::vector<float> rope_frequencies(const RopeSpec& rope);

// What cosines and sines are multiplied with: 1, or yarn's attention factor.
float rope_magnitude(const RopeSpec& rope);

}  // namespace lockstep
