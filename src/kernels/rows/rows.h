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
    {.name = "token_ids", .access = Access::kRead, .dims = "T"},
    {.name = "token_source", .access = Access::kRead, .dims = "T"},
    {.name = "sampled", .access = Access::kRead, .dims = "R"},
    {.name = "out", .access = Access::kWrite, .dims = "T"},
    {.name = "num_rows", .access = Access::kRead, .dims = "", .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kResolveTokensSpec{.name = "resolve_tokens", .args = kResolveTokensArgs};

inline constexpr OpArg kGatherRowsArgs[] = {
    {.name = "x", .access = Access::kRead, .dims = "TE"},
    {.name = "rows", .access = Access::kRead, .dims = "R"},
    {.name = "out", .access = Access::kWrite, .dims = "RE"},
    {.name = "num_logits_rows", .access = Access::kRead, .dims = "", .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kGatherRowsSpec{.name = "gather_rows", .args = kGatherRowsArgs};

// Errors: kInvalidArgument. Cost: one launch each. A source outside [0, R) gives token -1, which the
// embedding turns into NaN: seen by the sampler's count, never read out of bounds.
Status resolve_tokens(const Launcher& on, const ResolveTokensArgs& args, std::string_view stage);
// A row outside [0, T) gives a row of NaN, for the same reason.
Status gather_rows(const Launcher& on, const GatherRowsArgs& args, std::string_view stage);

}  // namespace lockstep
