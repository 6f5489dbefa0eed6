// The blocks that one row and kv head attend to, on the device, and who attends.
#pragma once

#include "kernels/common/sequence_owner.cuh"
#include "kernels/sparse_attention/sparse_attention.h"

namespace lockstep::cuda {

inline constexpr int64_t kBlock = 64;  // tokens

struct RowList {
  const int32_t* pages = nullptr;
  const int32_t* blocks = nullptr;  // null: all of them, in order
  int64_t visible = 0;              // tokens
  int64_t count = 0;                // blocks; 0 where nobody owns the row

  __device__ RowList(const SparseAttentionArgs& args, int64_t t, int64_t kv_head) {
    if (t >= live(args.num_rows, dim(args.q, 0))) return;
    const int64_t s = owner_of(args.query_start_loc, live(args.num_seqs, dim(args.seq_lens, 0)), t);
    if (s < 0) return;
    const auto* begins = static_cast<const int32_t*>(args.query_start_loc.data);
    const auto* starts = static_cast<const int32_t*>(args.starts.data) + t * args.cache.heads + kv_head;
    visible = static_cast<const int32_t*>(args.seq_lens.data)[s] - (begins[s + 1] - 1 - t);
    pages = row<const int32_t>(args.page_table, static_cast<const int32_t*>(args.table_rows.data)[s]);
    count = starts[1] - starts[0];
    if (count > 0) {
      blocks = static_cast<const int32_t*>(args.blocks.data) + starts[0];
    } else {
      count = (visible + kBlock - 1) / kBlock;
    }
  }
  __device__ int64_t block(int64_t i) const { return blocks == nullptr ? i : blocks[i]; }
};

// Whether the tensor cores attend: bf16 caches of heads of 64 or 128 elements, in whole vectors.
bool fits_matrices(const SparseAttentionArgs& args);
void attend_by_matrices(const SparseAttentionArgs& args, const Worker& worker);

}  // namespace lockstep::cuda
