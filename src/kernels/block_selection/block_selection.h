// Which blocks of 64 keys each row attends to: InfLLM-V2's selection, one list per row and kv head.
//   A row at position t of sequence s, with n = t + 1:
//   dense      where max(prompt_lens[s], n) < dense_len: its list is empty, it attends to all keys
//   score      p[h][j] = exp(x[h][j] - m[h]) / z[h] over the windows j of K1 that are complete at t, with
//              x[h][j] = scale * q[h] · K1[j], y[h][i] = scale * q[h] · K2[i], m[h] = max y[h][i],
//              z[h] = sum exp(y[h][i] - m[h]);  score[j] = sum p[h][j] over the heads h of the kv head
//   pool       B[b] = max score[j] over 4 b - 1 <= j <= 4 b + 3
//   forced     b < init_blocks, and b from own - window_blocks to own, the block of the row's own key
//   choose     the forced blocks, and of the others those of the largest B, min(most_blocks, own + 1) in all;
//              of equal ones the lower block first. The list ascends.
#pragma once

#include "base/units.h"
#include "kernels/common/launcher.h"
#include "tensor/op_spec.h"
#include "tensor/tensor.h"

namespace lockstep {

inline constexpr int64_t kBlockTokens = 64;
inline constexpr int64_t kMostGroupHeads = 64;  // query heads of a kv head

struct SelectBlocksArgs {
  TensorView q;                // [T, H, D] f32, any stride of T and H
  TensorView k1;               // [P, K, B / 16, D]: compressed_keys.h; this step's windows are in it
  TensorView k2;               // [P, K, B / 64, D]
  TensorView page_table;       // [R, M] i32 (PageId): of the compressed keys
  TensorView table_rows;       // [S] i32 (TableRow): of the compressed keys
  TensorView query_start_loc;  // [S + 1] i32 (RowOffset)
  TensorView seq_lens;         // [S] i32 (TokenCount), this step's rows included
  TensorView prompt_lens;      // [S] i32 (TokenCount)
  TensorView counts;           // [T K] i32: blocks of row t, kv head k, at t K + k; 0: all keys
  TensorView starts;           // [T K + 1] i32: their prefix sums
  TensorView blocks;           // [T K most_blocks] i32: block numbers within the sequence; 0 past the last
  TensorView workspace;        // u8, at least select_blocks_workspace_bytes(...)
  const LiveRows* num_rows = nullptr;
  const LiveSeqs* num_seqs = nullptr;
  int32_t init_blocks = 0;
  int32_t window_blocks = 0;
  int32_t most_blocks = 0;  // at least init_blocks + window_blocks + 1
  int32_t dense_len = 0;
  float scale = 1.0f;
};

inline constexpr OpArg kSelectBlocksArgs[] = {
    {LS_ARG(SelectBlocksArgs, q), .access = Access::kRead, .dims = "THD", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(SelectBlocksArgs, k1), .access = Access::kRead, .dims = "PKJD", .rows = RowsTouched::kOwned,
     .any_stride = true},
    {LS_ARG(SelectBlocksArgs, k2), .access = Access::kRead, .dims = "PKID", .rows = RowsTouched::kOwned,
     .any_stride = true},
    {LS_ARG(SelectBlocksArgs, page_table), .access = Access::kRead, .dims = "RL", .rows = RowsTouched::kOwned,
     .any_stride = true},
    {LS_ARG(SelectBlocksArgs, table_rows), .access = Access::kRead, .dims = "S", .rows = RowsTouched::kLive},
    {LS_ARG(SelectBlocksArgs, query_start_loc), .access = Access::kRead, .dims = "S1",
     .rows = RowsTouched::kLive},
    {LS_ARG(SelectBlocksArgs, seq_lens), .access = Access::kRead, .dims = "S", .rows = RowsTouched::kLive},
    {LS_ARG(SelectBlocksArgs, prompt_lens), .access = Access::kRead, .dims = "S", .rows = RowsTouched::kLive},
    {LS_ARG(SelectBlocksArgs, counts), .access = Access::kWrite, .dims = "X"},
    {LS_ARG(SelectBlocksArgs, starts), .access = Access::kWrite, .dims = "Y"},
    {LS_ARG(SelectBlocksArgs, blocks), .access = Access::kWrite, .dims = "Z"},
    {LS_ARG(SelectBlocksArgs, workspace), .access = Access::kWrite, .dims = "W", .rows = RowsTouched::kNone},
    {LS_ARG(SelectBlocksArgs, num_rows), .rows = RowsTouched::kNone},
    {LS_ARG(SelectBlocksArgs, num_seqs), .rows = RowsTouched::kNone},
    {LS_ARG(SelectBlocksArgs, init_blocks), .rows = RowsTouched::kNone},
    {LS_ARG(SelectBlocksArgs, window_blocks), .rows = RowsTouched::kNone},
    {LS_ARG(SelectBlocksArgs, most_blocks), .rows = RowsTouched::kNone},
    {LS_ARG(SelectBlocksArgs, dense_len), .rows = RowsTouched::kNone},
    {LS_ARG(SelectBlocksArgs, scale), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kSelectBlocksSpec{.name = "select_blocks",
                                          .args = kSelectBlocksArgs,
                                          .args_bytes = sizeof(SelectBlocksArgs),
                                          .workspace = "per thread, see header"};

// Bytes of workspace: per thread the scores of one row and kv head, for sequences of up to `tokens` tokens.
int64_t select_blocks_workspace_bytes(int threads, int64_t head_dim, int64_t tokens);

// Identity: every number above is f32 in one order, on every instruction set: products are one chain of
//           multiply-adds over d, ascending; z is sixteen sums, of the windows i with i mod 16 = 0..15, each
//           ascending, then halves onto halves; p is exp times 1 / z, exp that of simd_math.h; score adds
//           heads ascending. A NaN counts as 0. So a row's list follows from its own sequence alone, and is
//           the same whatever the device's vectors are. Where no window of K2 is complete, m is -inf and p
//           infinity: with a window of one block or more such rows choose nothing by score.
// Dtypes:  q f32; k1, k2 f32, f16, bf16; sums f32.
// Errors:  kInvalidArgument for shapes, dtypes, numbers of blocks and a workspace that do not fit.
// Cost:    one launch; a row that cannot have more than most_blocks reads nothing, others read 5 / 64 of a
//          dense row's keys.
// Source:  Zhao et al. 2025, InfLLM-V2.
Status select_blocks(const Launcher& on, const SelectBlocksArgs& args, std::string_view stage);

}  // namespace lockstep
