// What tests of models share: the tiny checkpoints of the reference implementation.
#pragma once

#include <string>

#include "model/families/families.h"

namespace lockstep {

// The folder of one. In weights_test.cc: tests alone know where the sources lie.
std::string golden(const std::string& family);

inline DecoderSpec golden_spec(const std::string& family) {
  return read_decoder_spec(parse_json_file(golden(family) + "/config.json").value()).value();
}

}  // namespace lockstep
