// Rotary position embedding, with the per-head RMSNorm that Qwen3 puts before it.
//   n = norm(x[t, h])  (when weight is given), then over the first r = rotary_dim of its D elements:
//   y_i = n_i cos_i - n_{i + r/2} sin_i ;  y_{i + r/2} = n_{i + r/2} cos_i + n_i sin_i,  i < r/2; the rest
//   passes.
#pragma once

#include "base/units.h"
#include "kernels/common/launcher.h"
#include "kernels/rms_norm/rms_norm.h"
#include "tensor/op_spec.h"

namespace lockstep {

struct RopeAnglesArgs {
  TensorView positions;  // [T] i32 (Position)
  TensorView inv_freq;   // [R] f32, R = rotary_dim / 2
  TensorView cos_sin;    // [T, 2R] f32: cosines, then sines
  const LiveRows* num_rows = nullptr;
  float magnitude = 1.0f;  // multiplies both (yarn's attention factor)
};

struct QkNormRopeArgs {
  TensorView x;        // [T, H, D] f32, any stride of T and H (a slice of a fused projection)
  TensorView weight;   // [D] f32; null data: no norm
  TensorView cos_sin;  // [T, 2R] f32; R = 0 or null data: no rotation
  TensorView out;      // [T, H, D] f32, any stride of T and H; may be x
  const LiveRows* num_rows = nullptr;
  float epsilon = 1e-6f;
  NormFlavour flavour = NormFlavour::kPlain;
};

inline constexpr OpArg kRopeAnglesArgs[] = {
    {LS_ARG(RopeAnglesArgs, positions), .access = Access::kRead, .dims = "T", .rows = RowsTouched::kLive},
    {LS_ARG(RopeAnglesArgs, inv_freq), .access = Access::kRead, .dims = "R", .rows = RowsTouched::kNone},
    {LS_ARG(RopeAnglesArgs, cos_sin), .access = Access::kWrite, .dims = "TC", .any_stride = true},
    {LS_ARG(RopeAnglesArgs, num_rows), .rows = RowsTouched::kNone},
    {LS_ARG(RopeAnglesArgs, magnitude), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kRopeAnglesSpec{
    .name = "rope_angles", .args = kRopeAnglesArgs, .args_bytes = sizeof(RopeAnglesArgs)};

inline constexpr OpArg kQkNormRopeArgs[] = {
    {LS_ARG(QkNormRopeArgs, x), .access = Access::kRead, .dims = "THD", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(QkNormRopeArgs, weight), .access = Access::kRead, .dims = "D", .rows = RowsTouched::kNone},
    {LS_ARG(QkNormRopeArgs, cos_sin), .access = Access::kRead, .dims = "TC", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(QkNormRopeArgs, out), .access = Access::kWrite, .dims = "THD", .any_stride = true},
    {LS_ARG(QkNormRopeArgs, num_rows), .rows = RowsTouched::kNone},
    {LS_ARG(QkNormRopeArgs, epsilon), .rows = RowsTouched::kNone},
    {LS_ARG(QkNormRopeArgs, flavour), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kQkNormRopeSpec{
    .name = "qk_norm_rope", .args = kQkNormRopeArgs, .args_bytes = sizeof(QkNormRopeArgs)};

// Cosines and sines of position * inv_freq, product and functions in f32 as the reference models do; once per
// step, shared by all layers. Pad rows are zero. Errors: kInvalidArgument. Cost: one launch.
Status rope_angles(const Launcher& on, const RopeAnglesArgs& args, std::string_view stage);

// Pad rows are zero. Errors: kInvalidArgument (odd rotary width, wider than D, shapes). Cost: one launch.
// Source: Su et al. 2021, RoFormer (half-split pairing, as in GPT-NeoX).
Status qk_norm_rope(const Launcher& on, const QkNormRopeArgs& args, std::string_view stage);

}  // namespace lockstep
