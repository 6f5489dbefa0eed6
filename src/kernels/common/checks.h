// What front doors check of every tensor before a kernel may trust it.
#pragma once

#include <initializer_list>
#include <string_view>

#include "base/status.h"
#include "base/units.h"
#include "tensor/tensor.h"

namespace lockstep {

// Errors: kInvalidArgument, "rms_norm: x is bf16; expected f32".
Status check_dtype(std::string_view op, std::string_view name, const TensorView& view, DType expected);

// Elements of the innermost dimension lie side by side; outer strides are free.
// Errors: kInvalidArgument, "rms_norm: x [7, 4] has an innermost stride of 7; expected 1".
Status check_dense_rows(std::string_view op, std::string_view name, const TensorView& view);

// Errors: kInvalidArgument, with a fault of moment kLaunch (L1), "moe: workspace has 64 bytes; expected at
// least 4096".
Status check_workspace(std::string_view op, const TensorView& workspace, int64_t least_bytes);

// Errors: kInvalidArgument, "table_edits: num_edits is null; expected the address of a count".
Status check_count(std::string_view op, std::string_view name, const void* count);
inline Status check_num_rows(std::string_view op, const LiveRows* num_rows) {
  return check_count(op, "num_rows", num_rows);
}

enum class Presence : uint8_t { kRequired, kOptional };

// One tensor of a call with dense rows of one element type.
struct TensorRule {
  std::string_view name;
  const TensorView& view;
  DType dtype = DType::kF32;
  Presence presence = Presence::kRequired;
};

// Holds each tensor of a call to its rule. A tensor without elements may have no memory.
// Errors: those of check_dtype and check_dense_rows, and "rms_norm: x has no memory; it is required".
Status check_tensors(std::string_view op, std::initializer_list<TensorRule> rules);

}  // namespace lockstep
