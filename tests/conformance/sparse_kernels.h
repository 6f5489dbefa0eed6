// The two kernels of sparse_pages.h.
#pragma once

#include "base/units.h"
#include "device/stream.h"
#include "kernels/kv_cache/kv_view.h"
#include "tensor/op_spec.h"

namespace lockstep::conformance {

// Scores the pages of each sequence's one row: sum over heads of q . mean key of the page.
struct SelectPagesArgs {
  TensorView q;  // [T, H, D] f32
  KvView cache;
  TensorView page_table;       // [R, M] i32
  TensorView table_rows;       // [S] i32
  TensorView seq_lens;         // [S] i32
  TensorView selected_counts;  // [max S] i32
  TensorView selected_starts;  // [max S + 1] i32
  TensorView selected_pages;   // [max S * kTopPages] i32
  const LiveSeqs* num_seqs = nullptr;
};
extern const OpSpec kSelectPagesSpec;
void select_pages(const SelectPagesArgs& args, Worker worker);

// Row s attends to the tokens of pages [selected_starts[s], selected_starts[s + 1]) of selected_pages.
struct SparseAttentionArgs {
  TensorView q;  // [T, H, D] f32
  KvView cache;
  TensorView page_table;       // [R, M] i32
  TensorView table_rows;       // [S] i32
  TensorView seq_lens;         // [S] i32
  TensorView selected_starts;  // [max S + 1] i32
  TensorView selected_pages;   // [max S * kTopPages] i32
  TensorView out;              // [T, H, D] f32
  const LiveSeqs* num_seqs = nullptr;
  float scale = 1.0f;
};
extern const OpSpec kSparseAttentionSpec;
void sparse_attention(const SparseAttentionArgs& args, Worker worker);

}  // namespace lockstep::conformance
