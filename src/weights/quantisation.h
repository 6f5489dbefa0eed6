// What a checkpoint's config says about matrices that it holds in fewer bits. Which matrices those are, the
// header says: every tensor by itself (stored_matrix.h).
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "json/json.h"

namespace lockstep {

enum class QuantMethod : uint8_t { kNone, kFp8, kAwq, kGptq };

struct Quantisation {
  QuantMethod method = QuantMethod::kNone;
  int64_t block_rows = 128;     // fp8: outputs and inputs that share a scale
  int64_t block_columns = 128;  //
  int64_t group_size = 128;     // awq, gptq: inputs that share a scale; -1: all
  bool other_groups = false;    // gptq: `dynamic` may give a matrix another group size
  bool zeros_less_one = false;  // gptq: zero points are stored less one, as checkpoint_format "gptq" does
  bool symmetric = false;       // gptq: the zero point is 8 where none is stored

  // "fp8 in blocks of 128 x 128", "awq int4 in groups of 128"; empty for kNone.
  std::string text() const;
  bool operator==(const Quantisation&) const = default;
};

// Reads quantization_config; kNone where there is none.
// Errors: kUnimplemented for a method, number of bits or storage format that no code here reads;
//         kInvalidArgument for a value of a wrong type or range. Both name key, value and what is expected.
Result<Quantisation> read_quantisation(const Json& config);

}  // namespace lockstep
