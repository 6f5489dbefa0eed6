// Two ways in which a branch is gated.
#pragma once

#include "base/units.h"
#include "kernels/common/launcher.h"
#include "tensor/op_spec.h"
#include "tensor/tensor.h"

namespace lockstep {

// out[t, h] = x[t, h] * sigmoid(gate[t, h]): the output gate of attention.
struct SigmoidGateArgs {
  TensorView x;     // [T, H, D] f32, any stride of T and H
  TensorView gate;  // [T, H, D] f32, any stride of T and H
  TensorView out;   // [T, H, D] f32, any stride of T and H; may be x
  const LiveRows* num_rows = nullptr;
};

// out[t] += sigmoid(gate[t]) * y[t]: the shared expert joins the routed ones.
struct GatedAddArgs {
  TensorView y;     // [T, E] f32
  TensorView gate;  // [T, 1] f32; null data: a gate of one
  TensorView out;   // [T, E] f32, in and out
  const LiveRows* num_rows = nullptr;
};

inline constexpr OpArg kSigmoidGateArgs[] = {
    {LS_ARG(SigmoidGateArgs, x), .access = Access::kRead, .dims = "THD", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(SigmoidGateArgs, gate), .access = Access::kRead, .dims = "THD", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(SigmoidGateArgs, out), .access = Access::kWrite, .dims = "THD", .any_stride = true},
    {LS_ARG(SigmoidGateArgs, num_rows), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kSigmoidGateSpec{
    .name = "sigmoid_gate", .args = kSigmoidGateArgs, .args_bytes = sizeof(SigmoidGateArgs)};

inline constexpr OpArg kGatedAddArgs[] = {
    {LS_ARG(GatedAddArgs, y), .access = Access::kRead, .dims = "TE", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(GatedAddArgs, gate), .access = Access::kRead, .dims = "T1", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(GatedAddArgs, out), .access = Access::kReadWrite, .dims = "TE", .any_stride = true},
    {LS_ARG(GatedAddArgs, num_rows), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kGatedAddSpec{
    .name = "gated_add", .args = kGatedAddArgs, .args_bytes = sizeof(GatedAddArgs)};

// Pad rows of out become zero in both. Errors: kInvalidArgument. Cost: one launch each.
Status sigmoid_gate(const Launcher& on, const SigmoidGateArgs& args, std::string_view stage);
Status gated_add(const Launcher& on, const GatedAddArgs& args, std::string_view stage);

}  // namespace lockstep
