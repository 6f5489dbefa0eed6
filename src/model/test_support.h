// What tests of models share: the tiny checkpoints of the reference implementation.
#pragma once

#include <string>

#include "model/families/families.h"

namespace lockstep {

inline std::string golden(const std::string& family) {
  return std::string(LOCKSTEP_SOURCE_DIR) + "/tests/golden/" + family;
}

inline DecoderSpec golden_spec(const std::string& family) {
  return read_decoder_spec(parse_json_file(golden(family) + "/config.json").value()).value();
}

}  // namespace lockstep
