// RMSNorm over the last dimension, with an optional residual that is updated first.
//   residual[t] += x[t] * x_scale    (when residual is given; then s = residual, else s = x)
//   out[t] = s[t] / sqrt(mean(s[t]^2) + epsilon) * out_scale * g,   g = weight (plain) or 1 + weight
//   (zero-centred)
#pragma once

#include "base/units.h"
#include "kernels/common/launcher.h"
#include "tensor/op_spec.h"
#include "tensor/tensor.h"

namespace lockstep {

enum class NormFlavour : uint8_t { kPlain, kZeroCentred };

struct RmsNormArgs {
  TensorView x;         // [T, E] f32
  TensorView weight;    // [E] f32
  TensorView residual;  // [T, E] f32, in and out; null data: absent
  TensorView out;       // [T, E] f32; may be x
  const LiveRows* num_rows = nullptr;
  float epsilon = 1e-6f;
  NormFlavour flavour = NormFlavour::kPlain;
  float x_scale = 1.0f;    // of x where it is added to the residual
  float out_scale = 1.0f;  // of out
};

inline constexpr OpArg kRmsNormArgs[] = {
    {LS_ARG(RmsNormArgs, x), .access = Access::kRead, .dims = "TE", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(RmsNormArgs, weight), .access = Access::kRead, .dims = "E", .rows = RowsTouched::kNone},
    {LS_ARG(RmsNormArgs, residual), .access = Access::kReadWrite, .dims = "TE", .any_stride = true},
    {LS_ARG(RmsNormArgs, out), .access = Access::kWrite, .dims = "TE", .any_stride = true},
    {LS_ARG(RmsNormArgs, num_rows), .rows = RowsTouched::kNone},
    {LS_ARG(RmsNormArgs, epsilon), .rows = RowsTouched::kNone},
    {LS_ARG(RmsNormArgs, flavour), .rows = RowsTouched::kNone},
    {LS_ARG(RmsNormArgs, x_scale), .rows = RowsTouched::kNone},
    {LS_ARG(RmsNormArgs, out_scale), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kRmsNormSpec{
    .name = "rms_norm", .args = kRmsNormArgs, .args_bytes = sizeof(RmsNormArgs)};

// Pad rows of residual and out become zero. Errors: kInvalidArgument. Cost: one launch.
// Source: Zhang & Sennrich 2019, Root Mean Square Layer Normalization.
Status rms_norm(const Launcher& on, const RmsNormArgs& args, std::string_view stage);

}  // namespace lockstep
