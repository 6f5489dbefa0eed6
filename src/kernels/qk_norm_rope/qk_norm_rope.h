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
    {.name = "positions", .access = Access::kRead, .dims = "T"},
    {.name = "inv_freq", .access = Access::kRead, .dims = "R", .rows = RowsTouched::kNone},
    {.name = "cos_sin", .access = Access::kWrite, .dims = "TC"},
    {.name = "num_rows", .access = Access::kRead, .dims = "", .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kRopeAnglesSpec{.name = "rope_angles", .args = kRopeAnglesArgs};

inline constexpr OpArg kQkNormRopeArgs[] = {
    {.name = "x", .access = Access::kRead, .dims = "THD", .any_stride = true},
    {.name = "weight", .access = Access::kRead, .dims = "D", .rows = RowsTouched::kNone},
    {.name = "cos_sin", .access = Access::kRead, .dims = "TC"},
    {.name = "out", .access = Access::kWrite, .dims = "THD", .any_stride = true},
    {.name = "num_rows", .access = Access::kRead, .dims = "", .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kQkNormRopeSpec{.name = "qk_norm_rope", .args = kQkNormRopeArgs};

// Cosines and sines of position * inv_freq, product and functions in f32 as the reference models do; once per
// step, shared by all layers. Pad rows are zero. Errors: kInvalidArgument. Cost: one launch.
Status rope_angles(const Launcher& on, const RopeAnglesArgs& args, std::string_view stage);

// Pad rows are zero. Errors: kInvalidArgument (odd rotary width, wider than D, shapes). Cost: one launch.
// Source: Su et al. 2021, RoFormer (half-split pairing, as in GPT-NeoX).
Status qk_norm_rope(const Launcher& on, const QkNormRopeArgs& args, std::string_view stage);

}  // namespace lockstep
