// out[t] = table[token_ids[t]] * scale; pad rows are zero. A table may be a share of the vocabulary: then
// tokens of other ranks give rows of zeros, and the sum over the ranks is the whole.
#pragma once

#include "base/units.h"
#include "kernels/common/launcher.h"
#include "kernels/linear/packed_weight.h"
#include "tensor/op_spec.h"

namespace lockstep {

struct EmbeddingArgs {
  TensorView token_ids;  // [T] i32 (TokenId)
  PackedWeight table;    // [V, E], either layout: a tied head and the embedding share one copy
  TensorView out;        // [T, E] f32
  const LiveRows* num_rows = nullptr;
  int32_t first_row = 0;  // the token of the table's first row
  int32_t vocab = 0;      // tokens that there are; 0: as many as the table has rows
  float scale = 1.0f;
};

inline constexpr OpArg kEmbeddingArgs[] = {
    {LS_ARG(EmbeddingArgs, token_ids), .access = Access::kRead, .dims = "T", .rows = RowsTouched::kLive},
    {LS_ARG(EmbeddingArgs, table), .access = Access::kRead, .dims = "VE", .rows = RowsTouched::kNone},
    {LS_ARG(EmbeddingArgs, out), .access = Access::kWrite, .dims = "TE", .any_stride = true},
    {LS_ARG(EmbeddingArgs, num_rows), .rows = RowsTouched::kNone},
    {LS_ARG(EmbeddingArgs, first_row), .rows = RowsTouched::kNone},
    {LS_ARG(EmbeddingArgs, vocab), .rows = RowsTouched::kNone},
    {LS_ARG(EmbeddingArgs, scale), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kEmbeddingSpec{
    .name = "embedding", .args = kEmbeddingArgs, .args_bytes = sizeof(EmbeddingArgs)};

// A live id outside the vocabulary gives a row of NaN, whatever the table's share: it can only come from a
// broken plan, and the sampler counts non-finite values per row, so it is seen and not read out of bounds.
// Errors: kInvalidArgument for shapes or dtypes that do not fit. Cost: one launch.
Status embedding(const Launcher& on, const EmbeddingArgs& args, std::string_view stage);

}  // namespace lockstep
