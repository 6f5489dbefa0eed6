// The decays of lightning attention.
#pragma once

#include <vector>

#include "model/decoder_spec.h"

namespace lockstep {

// e^-slope of each of this rank's heads. The slopes of H heads of a model are those of ALiBi: for H a power
// of two 2^(-8 (h + 1) / H), h from 0; else those of the largest power of two P below, and after them every
// other one of 2P.
// Source: Press et al. 2022, Train Short, Test Long; Qin et al. 2024, Lightning Attention-2.
std::vector<float> lightning_decays(const LightningMixerSpec& spec);

}  // namespace lockstep
