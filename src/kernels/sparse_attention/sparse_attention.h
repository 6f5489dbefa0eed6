// Causal softmax attention of each row over chosen blocks of 64 keys of its own sequence: paged_attention in
// which a row and kv head see the tokens of their list alone (block_selection.h), all of them where it is
// empty.
#pragma once

#include "base/units.h"
#include "kernels/common/launcher.h"
#include "kernels/kv_cache/kv_view.h"
#include "tensor/op_spec.h"
#include "tensor/tensor.h"

namespace lockstep {

struct SparseAttentionArgs {
  TensorView q;                // [T, H, D] f32, any stride of T and H
  KvView cache;                // this step's rows are stored already
  TensorView page_table;       // [R, M] i32 (PageId)
  TensorView table_rows;       // [S] i32 (TableRow)
  TensorView query_start_loc;  // [S + 1] i32 (RowOffset)
  TensorView seq_lens;         // [S] i32 (TokenCount), this step's rows included
  TensorView starts;           // [T K + 1] i32: where the list of row t, kv head k begins, at t K + k
  TensorView blocks;           // [Z] i32: ascending within a list
  TensorView out;              // [T, H, D] f32, any stride of T and H
  TensorView workspace;        // u8, at least paged_attention_workspace_bytes(...)
  const LiveRows* num_rows = nullptr;
  const LiveSeqs* num_seqs = nullptr;
  float scale = 1.0f;
};

inline constexpr OpArg kSparseAttentionArgs[] = {
    {LS_ARG(SparseAttentionArgs, q), .access = Access::kRead, .dims = "THD", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(SparseAttentionArgs, cache), .access = Access::kRead, .dims = "PKBD", .rows = RowsTouched::kOwned,
     .any_stride = true},
    {LS_ARG(SparseAttentionArgs, page_table), .access = Access::kRead, .dims = "RM",
     .rows = RowsTouched::kOwned, .any_stride = true},
    {LS_ARG(SparseAttentionArgs, table_rows), .access = Access::kRead, .dims = "S",
     .rows = RowsTouched::kLive},
    {LS_ARG(SparseAttentionArgs, query_start_loc), .access = Access::kRead, .dims = "S1",
     .rows = RowsTouched::kLive},
    {LS_ARG(SparseAttentionArgs, seq_lens), .access = Access::kRead, .dims = "S", .rows = RowsTouched::kLive},
    {LS_ARG(SparseAttentionArgs, starts), .access = Access::kRead, .dims = "Y"},
    {LS_ARG(SparseAttentionArgs, blocks), .access = Access::kRead, .dims = "Z"},
    {LS_ARG(SparseAttentionArgs, out), .access = Access::kWrite, .dims = "THD", .any_stride = true},
    {LS_ARG(SparseAttentionArgs, workspace), .access = Access::kWrite, .dims = "W",
     .rows = RowsTouched::kNone},
    {LS_ARG(SparseAttentionArgs, num_rows), .rows = RowsTouched::kNone},
    {LS_ARG(SparseAttentionArgs, num_seqs), .rows = RowsTouched::kNone},
    {LS_ARG(SparseAttentionArgs, scale), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kSparseAttentionSpec{.name = "sparse_attention",
                                             .args = kSparseAttentionArgs,
                                             .args_bytes = sizeof(SparseAttentionArgs),
                                             .workspace = "per thread, as paged_attention"};

// Identity: a row's result follows from its own sequence and list. On the CPU blocks are visited in the order
//           of the list by the work of paged_attention, so a row whose list holds every block it sees, or
//           none, has the bits of paged_attention. On CUDA, layouts that keep four elements together have
//           bits of their own.
// Dtypes:   as paged_attention.
// Errors:   kInvalidArgument, as paged_attention, and for lists of another shape.
// Cost:     one launch; a list's keys and values are read once per row and kv head, all keys once per 64
//           query vectors.
// Source:   Zhao et al. 2025, InfLLM-V2; otherwise as paged_attention.
Status sparse_attention(const Launcher& on, const SparseAttentionArgs& args, std::string_view stage);

}  // namespace lockstep
