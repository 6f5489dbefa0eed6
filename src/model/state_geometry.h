// What a model's recurrent layers keep per sequence.
#pragma once

#include "attention/storage.h"
#include "model/decoder_spec.h"

namespace lockstep {

// The states of one recurrent layer of a model, or of a rank's shard of it, in `slots` slots.
StateGeometry state_geometry(const DecoderSpec& spec, int32_t slots);

}  // namespace lockstep
