// out[t, h] = x[t, h] / sqrt(mean(x[t, h]^2) + epsilon) * weight * silu(z[t, h]): the norm behind the delta
// rule, plain weight whatever the model's other norms are, norm before gate.
#pragma once

#include "base/units.h"
#include "kernels/common/launcher.h"
#include "tensor/op_spec.h"
#include "tensor/tensor.h"

namespace lockstep {

struct GatedNormArgs {
  TensorView x;       // [T, H, D] f32
  TensorView z;       // [T, H, D] f32, any stride of T and H
  TensorView weight;  // [D] f32
  TensorView out;     // [T, H, D] f32; may be x
  const LiveRows* num_rows = nullptr;
  float epsilon = 1e-6f;
};

inline constexpr OpArg kGatedNormArgs[] = {
    {LS_ARG(GatedNormArgs, x), .access = Access::kRead, .dims = "THD", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(GatedNormArgs, z), .access = Access::kRead, .dims = "THD", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(GatedNormArgs, weight), .access = Access::kRead, .dims = "D", .rows = RowsTouched::kNone},
    {LS_ARG(GatedNormArgs, out), .access = Access::kWrite, .dims = "THD", .any_stride = true},
    {LS_ARG(GatedNormArgs, num_rows), .rows = RowsTouched::kNone},
    {LS_ARG(GatedNormArgs, epsilon), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kGatedNormSpec{
    .name = "gated_norm", .args = kGatedNormArgs, .args_bytes = sizeof(GatedNormArgs)};

// Pad rows are zero. Errors: kInvalidArgument. Cost: one launch.
Status gated_norm(const Launcher& on, const GatedNormArgs& args, std::string_view stage);

}  // namespace lockstep
