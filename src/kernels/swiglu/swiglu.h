// out[t, f] = silu(gate_up[t, f]) * gate_up[t, F + f],  silu(x) = x * sigmoid(x).
#pragma once

#include "base/units.h"
#include "kernels/common/launcher.h"
#include "tensor/op_spec.h"
#include "tensor/tensor.h"

namespace lockstep {

struct SwigluArgs {
  TensorView gate_up;  // [T, 2F] f32: gates, then ups
  TensorView out;      // [T, F] f32
  const LiveRows* num_rows = nullptr;
};

inline constexpr OpArg kSwigluArgs[] = {
    {LS_ARG(SwigluArgs, gate_up), .access = Access::kRead, .dims = "TG", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(SwigluArgs, out), .access = Access::kWrite, .dims = "TF", .any_stride = true},
    {LS_ARG(SwigluArgs, num_rows), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kSwigluSpec{.name = "swiglu", .args = kSwigluArgs, .args_bytes = sizeof(SwigluArgs)};

// Pad rows are zero. Errors: kInvalidArgument. Cost: one launch.
// Source: Shazeer 2020, GLU Variants Improve Transformer.
Status swiglu(const Launcher& on, const SwigluArgs& args, std::string_view stage);

}  // namespace lockstep
