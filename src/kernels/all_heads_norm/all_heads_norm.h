// RMSNorm over all heads of a row together, as MiniMax puts it on queries and on keys. In two ops: between
// them, ranks that share the heads add up their sums of squares.
//   squares[t] = sum over h, d of x[t, h, d]^2
//   out[t, h, d] = x[t, h, d] / sqrt(squares[t] / width + epsilon) * weight[h, d]
#pragma once

#include "base/units.h"
#include "kernels/common/launcher.h"
#include "kernels/rms_norm/rms_norm.h"
#include "tensor/op_spec.h"

namespace lockstep {

struct HeadSquaresArgs {
  TensorView x;    // [T, H, D] f32, any stride of T and H (a slice of a fused projection)
  TensorView out;  // [T, 1] f32, any stride of T
  const LiveRows* num_rows = nullptr;
  int64_t counted_heads = 0;  // the first so many of H: the others, copies, are counted by another rank
};

struct AllHeadsNormArgs {
  TensorView x;        // [T, H, D] f32, any stride of T and H
  TensorView weight;   // [H, D] f32
  TensorView squares;  // [T, 1] f32, any stride of T: of the row's heads on all ranks
  TensorView out;      // [T, H, D] f32, any stride of T and H; may be x
  const LiveRows* num_rows = nullptr;
  int64_t width = 0;  // elements that `squares` adds up
  float epsilon = 1e-6f;
  NormFlavour flavour = NormFlavour::kPlain;
};

inline constexpr OpArg kHeadSquaresArgs[] = {
    {LS_ARG(HeadSquaresArgs, x), .access = Access::kRead, .dims = "THD", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(HeadSquaresArgs, out), .access = Access::kWrite, .dims = "TC", .any_stride = true},
    {LS_ARG(HeadSquaresArgs, num_rows), .rows = RowsTouched::kNone},
    {LS_ARG(HeadSquaresArgs, counted_heads), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kHeadSquaresSpec{
    .name = "head_squares", .args = kHeadSquaresArgs, .args_bytes = sizeof(HeadSquaresArgs)};

inline constexpr OpArg kAllHeadsNormArgs[] = {
    {LS_ARG(AllHeadsNormArgs, x), .access = Access::kRead, .dims = "THD", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(AllHeadsNormArgs, weight), .access = Access::kRead, .dims = "HD", .rows = RowsTouched::kNone},
    {LS_ARG(AllHeadsNormArgs, squares), .access = Access::kRead, .dims = "TC", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(AllHeadsNormArgs, out), .access = Access::kWrite, .dims = "THD", .any_stride = true},
    {LS_ARG(AllHeadsNormArgs, num_rows), .rows = RowsTouched::kNone},
    {LS_ARG(AllHeadsNormArgs, width), .rows = RowsTouched::kNone},
    {LS_ARG(AllHeadsNormArgs, epsilon), .rows = RowsTouched::kNone},
    {LS_ARG(AllHeadsNormArgs, flavour), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kAllHeadsNormSpec{
    .name = "all_heads_norm", .args = kAllHeadsNormArgs, .args_bytes = sizeof(AllHeadsNormArgs)};

// The order of a row's sum follows from counted_heads and D alone. Pad rows are zero.
// Errors: kInvalidArgument (shapes, more counted heads than H). Cost: one launch.
Status head_squares(const Launcher& on, const HeadSquaresArgs& args, std::string_view stage);

// Pad rows are zero. Errors: kInvalidArgument (shapes, a width below 1). Cost: one launch.
// Source: modeling_minimax_m2.py of transformers, MiniMaxM2Attention.
Status all_heads_norm(const Launcher& on, const AllHeadsNormArgs& args, std::string_view stage);

}  // namespace lockstep
