// Ops that pick rows: the tokens of this step, and the rows whose logits are wanted.
#pragma once

#include "base/units.h"
#include "kernels/common/launcher.h"
#include "tensor/op_spec.h"
#include "tensor/tensor.h"

namespace lockstep {

// out[t] = token_source[t] < 0 ? token_ids[t] : sampled[token_source[t]]
// where `sampled` holds the tokens that the step named by the plan's source epoch sampled, one per logits
// row.
struct ResolveTokensArgs {
  TensorView token_ids;     // [T] i32: literals
  TensorView token_source;  // [T] i32: logits row of the source step; -1: the literal
  TensorView sampled;       // [R] i32
  TensorView out;           // [T] i32; pad rows: 0
  const LiveRows* num_rows = nullptr;
};

// out[r] = x[rows[r]] for r < *num_logits_rows; later rows are zero.
struct GatherRowsArgs {
  TensorView x;     // [T, E] f32
  TensorView rows;  // [R] i32 (RowIndex)
  TensorView out;   // [R, E] f32
  const LiveRows* num_logits_rows = nullptr;
};

inline constexpr OpArg kResolveTokensArgs[] = {
    {LS_ARG(ResolveTokensArgs, token_ids), .access = Access::kRead, .dims = "T", .rows = RowsTouched::kLive},
    {LS_ARG(ResolveTokensArgs, token_source), .access = Access::kRead, .dims = "T",
     .rows = RowsTouched::kLive},
    {LS_ARG(ResolveTokensArgs, sampled), .access = Access::kRead, .dims = "R", .rows = RowsTouched::kOwned},
    {LS_ARG(ResolveTokensArgs, out), .access = Access::kWrite, .dims = "T"},
    {LS_ARG(ResolveTokensArgs, num_rows), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kResolveTokensSpec{
    .name = "resolve_tokens", .args = kResolveTokensArgs, .args_bytes = sizeof(ResolveTokensArgs)};

inline constexpr OpArg kGatherRowsArgs[] = {
    {LS_ARG(GatherRowsArgs, x), .access = Access::kRead, .dims = "TE", .rows = RowsTouched::kOwned,
     .any_stride = true},
    {LS_ARG(GatherRowsArgs, rows), .access = Access::kRead, .dims = "R", .rows = RowsTouched::kLive},
    {LS_ARG(GatherRowsArgs, out), .access = Access::kWrite, .dims = "RE", .any_stride = true},
    {LS_ARG(GatherRowsArgs, num_logits_rows), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kGatherRowsSpec{
    .name = "gather_rows", .args = kGatherRowsArgs, .args_bytes = sizeof(GatherRowsArgs)};

// Errors: kInvalidArgument. Cost: one launch each. A source outside [0, R) gives token -1, which the
// embedding turns into NaN: seen by the sampler's count, never read out of bounds.
Status resolve_tokens(const Launcher& on, const ResolveTokensArgs& args, std::string_view stage);
// A row outside [0, T) gives a row of NaN, for the same reason.
Status gather_rows(const Launcher& on, const GatherRowsArgs& args, std::string_view stage);

}  // namespace lockstep
