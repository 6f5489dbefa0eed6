// The rows that attend_split() serves, in slabs that the workspace has room for, and where their parts lie.
#pragma once

#include "kernels/paged_attention/attention_parts.h"
#include "kernels/paged_attention/cuda_attention.cuh"

namespace lockstep::cuda::split {

inline constexpr int kMostRows = 256;  // of a slab

// A slab: `count` rows from number `first` on; where `rows` is kOfSingles, sequences.
struct SplitArgs {
  PagedAttentionArgs args;
  SplitRows rows;
  int32_t first;
  int32_t count;
  int32_t most_parts;  // of a row
};

// A row of a slab. Nobody's has no table, and nothing visible.
struct SplitRow {
  int t = 0;        // of the batch
  int visible = 0;  // tokens
  int table = -1;   // its row of the page table
  int size = 0;     // tokens of each part but the last
};

// The i-th of the slab. Where every sequence has one row, nobody searches.
__device__ inline SplitRow find_row(const SplitArgs& split, int i) {
  const PagedAttentionArgs& args = split.args;
  const auto* starts = static_cast<const int32_t*>(args.query_start_loc.data);
  const auto* lens = static_cast<const int32_t*>(args.seq_lens.data);
  const auto* tables = static_cast<const int32_t*>(args.table_rows.data);
  // What is most likely wanted is asked for before anything is known.
  const int64_t index = split.first + i;
  int64_t s = index < dim(args.seq_lens, 0) ? index : 0;
  const int32_t begin = starts[s];
  int32_t end = starts[s + 1], len = lens[s], table = tables[s];
  const int64_t seqs = live(args.num_seqs, dim(args.seq_lens, 0)), rows = live(args.num_rows, dim(args.q, 0));
  const int64_t t = split.rows == SplitRows::kAll ? index : begin;
  SplitRow row{.t = static_cast<int>(t)};
  if (t >= rows) return row;
  const bool guessed = s == index && s < seqs && begin == t && end == begin + 1;
  if (!guessed) {
    if (split.rows == SplitRows::kOfSingles) return row;
    s = owner_of(args.query_start_loc, seqs, t);
    if (s < 0) return row;
    end = starts[s + 1], len = lens[s], table = tables[s];
  }
  const int64_t room = dim(args.page_table, 1) * args.cache.page_tokens;
  const int64_t visible = len - (end - 1 - t);
  row.visible = static_cast<int>(visible < 0 ? 0 : visible < room ? visible : room);
  row.table = table;
  row.size = static_cast<int>(part_tokens(row.visible));
  return row;
}

// The first part of a query head of the slab's i-th row; the others follow it.
__device__ inline float* parts_at(const SplitArgs& split, int64_t i, int64_t head) {
  const int64_t number = (i * dim(split.args.q, 1) + head) * split.most_parts;
  return static_cast<float*>(split.args.workspace.data) + number * part_floats(split.args.cache.head_dim);
}

}  // namespace lockstep::cuda::split
