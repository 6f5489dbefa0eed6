// What front doors check of every tensor before a kernel may trust it.
#pragma once

#include <initializer_list>
#include <string_view>

#include "base/status.h"
#include "tensor/tensor.h"

namespace lockstep {

enum class Presence : uint8_t { kRequired, kOptional };

// One tensor of a call: its element type, with elements of the innermost dimension side by side. Outer
// strides are free.
struct TensorRule {
  std::string_view name;
  const TensorView& view;
  DType dtype = DType::kF32;
  Presence presence = Presence::kRequired;
};

// Holds each tensor of a call to its rule. A tensor without elements may have no memory.
// Errors: kInvalidArgument, "rms_norm: x is bf16; expected f32", "rms_norm: x has no memory; it is required",
// "rms_norm: x [7, 4] has an innermost stride of 7; expected 1".
Status check_tensors(std::string_view op, std::initializer_list<TensorRule> rules);

// Errors: kInvalidArgument, "linear: workspace has 64 bytes; expected at least 4096".
Status check_workspace(std::string_view op, const TensorView& workspace, int64_t least_bytes);

// Errors: kInvalidArgument, "rms_norm: num_rows is null; expected the address of a count".
Status check_count(std::string_view op, std::string_view name, const void* count);

}  // namespace lockstep
