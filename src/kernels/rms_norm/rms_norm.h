// RMSNorm over the last dimension, with an optional residual that is updated first.
//   residual[t] += x[t]           (when residual is given; then s = residual, else s = x)
//   out[t] = s[t] / sqrt(mean(s[t]^2) + epsilon) * g,   g = weight (plain) or 1 + weight (zero-centred)
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
};

inline constexpr OpArg kRmsNormArgs[] = {
    {.name = "x", .access = Access::kRead, .dims = "TE"},
    {.name = "weight", .access = Access::kRead, .dims = "E", .rows = RowsTouched::kNone},
    {.name = "residual", .access = Access::kReadWrite, .dims = "TE"},
    {.name = "out", .access = Access::kWrite, .dims = "TE"},
    {.name = "num_rows", .access = Access::kRead, .dims = "", .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kRmsNormSpec{.name = "rms_norm", .args = kRmsNormArgs};

// Pad rows of residual and out become zero. Errors: kInvalidArgument. Cost: one launch.
// Source: Zhang & Sennrich 2019, Root Mean Square Layer Normalization.
Status rms_norm(const Launcher& on, const RmsNormArgs& args, std::string_view stage);

}  // namespace lockstep
