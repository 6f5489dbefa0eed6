// What tests of models share: the tiny checkpoints of the reference implementation.
#pragma once

#include <string>

#include "model/families/families.h"
#include "model/weights.h"
#include "weights/checkpoint.h"

namespace lockstep {

// The folder of one. In weights_test.cc: tests alone know where the sources lie.
std::string golden(const std::string& family);

// As a model is planned: with the names of its checkpoint.
inline DecoderSpec golden_spec(const std::string& family) {
  DecoderSpec spec = read_decoder_spec(parse_json_file(golden(family) + "/config.json").value()).value();
  adopt_names(Checkpoint::open(golden(family)).value(), spec.naming);
  return spec;
}

}  // namespace lockstep
