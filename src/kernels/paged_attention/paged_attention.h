// Causal softmax attention of each row over the pages of its own sequence.
//   sequence s owns rows [query_start_loc[s], query_start_loc[s+1]); its row i stands at position
//   seq_lens[s] - q_len + i and sees positions 0..that.
//   out[t, h] = softmax(scale * q[t, h] · K[., h / (H/K)]) · V
#pragma once

#include "base/units.h"
#include "kernels/common/launcher.h"
#include "kernels/kv_cache/kv_view.h"
#include "kernels/linear/linear.h"
#include "tensor/op_spec.h"
#include "tensor/tensor.h"

namespace lockstep {

struct PagedAttentionArgs {
  TensorView q;                // [T, H, D] f32, any stride of T and H
  KvView cache;                // this step's rows are stored already
  TensorView page_table;       // [R, M] i32 (PageId): page of each table row and index
  TensorView table_rows;       // [S] i32 (TableRow): the table row of each sequence
  TensorView query_start_loc;  // [S + 1] i32 (RowOffset)
  TensorView seq_lens;         // [S] i32 (TokenCount), this step's rows included
  TensorView out;              // [T, H, D] f32, any stride of T and H
  TensorView workspace;        // u8, at least paged_attention_workspace_bytes(...)
  const LiveRows* num_rows = nullptr;
  const LiveSeqs* num_seqs = nullptr;  // live sequences, at the front
  float scale = 1.0f;
  // kBF16: q and the weights of tokens may enter their products rounded to bf16, where the cache is bf16.
  MatmulInput input = MatmulInput::kF32;
  int32_t query_len = 0;  // rows of every sequence that has any; 0: they differ
};

inline constexpr OpArg kPagedAttentionArgs[] = {
    {LS_ARG(PagedAttentionArgs, q), .access = Access::kRead, .dims = "THD", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(PagedAttentionArgs, cache), .access = Access::kRead, .dims = "PKBD", .rows = RowsTouched::kOwned,
     .any_stride = true},
    {LS_ARG(PagedAttentionArgs, page_table), .access = Access::kRead, .dims = "RM",
     .rows = RowsTouched::kOwned, .any_stride = true},
    {LS_ARG(PagedAttentionArgs, table_rows), .access = Access::kRead, .dims = "S",
     .rows = RowsTouched::kLive},
    {LS_ARG(PagedAttentionArgs, query_start_loc), .access = Access::kRead, .dims = "S1",
     .rows = RowsTouched::kLive},
    {LS_ARG(PagedAttentionArgs, seq_lens), .access = Access::kRead, .dims = "S", .rows = RowsTouched::kLive},
    {LS_ARG(PagedAttentionArgs, out), .access = Access::kWrite, .dims = "THD", .any_stride = true},
    {LS_ARG(PagedAttentionArgs, workspace), .access = Access::kWrite, .dims = "W",
     .rows = RowsTouched::kNone},
    {LS_ARG(PagedAttentionArgs, num_rows), .rows = RowsTouched::kNone},
    {LS_ARG(PagedAttentionArgs, num_seqs), .rows = RowsTouched::kNone},
    {LS_ARG(PagedAttentionArgs, scale), .rows = RowsTouched::kNone},
    {LS_ARG(PagedAttentionArgs, input), .rows = RowsTouched::kNone},
    {LS_ARG(PagedAttentionArgs, query_len), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kPagedAttentionSpec{.name = "paged_attention",
                                            .args = kPagedAttentionArgs,
                                            .args_bytes = sizeof(PagedAttentionArgs),
                                            .workspace = "per thread, see header"};

// Bytes that will do: scratch per thread for a block of keys or values in f32 and the sums of a tile of query
// rows, or one row's parts (attention_parts.h): a device attends for as many rows at a time as have room.
int64_t paged_attention_workspace_bytes(int threads, int64_t heads, int64_t kv_heads, int64_t head_dim);

// Identity: keys are visited in blocks of kAttentionBlock tokens counted from position 0, whatever the page
// size,
//          layout, chunk or batch; a row's result depends on its own sequence alone. Where q may be rounded
//          to bf16, a device computes the rows of sequences of one row in another way than other rows, and
//          which it is depends on the row's own sequence alone.
// Dtypes:  q, out f32; cache f32, f16, bf16; sums f32.
// Errors:  kInvalidArgument for shapes, dtypes, H % K != 0 or a workspace that do not fit.
// Cost:    one launch; each live page is read once per group of query rows that share it.
// Source:  Milakov & Gimelshein 2018, Online normalizer calculation for softmax; Dao 2023, FlashAttention-2;
//          Kwon et al. 2023, PagedAttention.
inline constexpr int64_t kAttentionBlock = 64;
Status paged_attention(const Launcher& on, const PagedAttentionArgs& args, std::string_view stage);

}  // namespace lockstep
