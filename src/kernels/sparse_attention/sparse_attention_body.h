// sparse_attention over a vector type: the body of the AVX2 and AVX-512 kernels. A row with a choice of its
// own is a tile per kv head; rows that see everything share tiles as in paged_attention.
#pragma once

#include "kernels/paged_attention/attention_tile.h"
#include "kernels/sparse_attention/sparse_attention_kernels.h"

namespace lockstep {

// The list of one row and kv head.
struct ChosenBlocks {
  const int32_t* blocks;
  int64_t count;

  [[gnu::always_inline]] static ChosenBlocks of(const SparseAttentionArgs& args, int64_t row,
                                                int64_t kv_head) {
    const auto* starts = static_cast<const int32_t*>(args.starts.data) + row * args.cache.heads + kv_head;
    return {static_cast<const int32_t*>(args.blocks.data) + starts[0], starts[1] - starts[0]};
  }
  // Whether it comes to every block that a row sees `visible` tokens of.
  [[gnu::always_inline]] bool all(int64_t visible) const {
    return count == 0 || count == (visible + kAttentionBlock - 1) / kAttentionBlock;
  }
};

// Calls visit(tile) for the tiles of one sequence and kv head, in the order of rows.
template <typename Visit>
[[gnu::always_inline]] inline void for_tiles_of_head(const SparseAttentionArgs& args,
                                                     const AttentionSequence& sequence, int64_t kv_head,
                                                     Visit&& visit) {
  const int64_t group = args.q.dim(1) / args.cache.heads;
  const auto chosen = [&](int64_t row) { return ChosenBlocks::of(args, sequence.first_row + row, kv_head); };
  const auto is_whole = [&](int64_t row) { return chosen(row).all(sequence.cached + row + 1); };
  for (int64_t row = 0; row < sequence.rows;) {
    int64_t end = row + 1;
    const bool whole = is_whole(row);
    while (whole && end < sequence.rows && is_whole(end)) ++end;
    const ChosenBlocks own = chosen(row);
    for (int64_t first = row * group; first < end * group; first += kAttentionTile) {
      const int64_t left = end * group - first;
      AttentionTile tile{sequence, kv_head, 1, first, left < kAttentionTile ? left : kAttentionTile};
      if (!whole) {
        tile.chosen = own.blocks;
        tile.num_chosen = own.count;
      }
      visit(tile);
    }
    row = end;
  }
}

template <typename Visit>
[[gnu::always_inline]] inline void for_all_tiles(const SparseAttentionArgs& args, Visit&& visit) {
  for (int64_t s = 0; s < args.num_seqs->get(); ++s) {
    const AttentionSequence sequence = AttentionSequence::at(args, s);
    for (int64_t head = 0; head < args.cache.heads; ++head) for_tiles_of_head(args, sequence, head, visit);
  }
}

// The worker's share of the tiles, cut where the cost is even: as for_attention_tiles.
template <typename Body>
[[gnu::always_inline]] inline void for_sparse_tiles(const SparseAttentionArgs& args, Worker worker,
                                                    Body&& body) {
  const int64_t group = args.q.dim(1) / args.cache.heads;
  const auto cost_of = [group](const AttentionTile& tile) {
    return tile.blocks(group) * (tile.count + 4) + 1;
  };
  int64_t total = 0, at = 0;
  for_all_tiles(args, [&](const AttentionTile& tile) { total += cost_of(tile); });
  const int64_t begin = total * worker.index / worker.count;
  const int64_t end = total * (worker.index + 1) / worker.count;
  for_all_tiles(args, [&](const AttentionTile& tile) {
    if (at >= begin && at < end) body(tile);
    at += cost_of(tile);
  });
}

template <typename V>
void sparse_attention_body(const SparseAttentionArgs& args, Worker worker) {
  zero_idle_rows<V>(args, worker);
  const AttentionScratch scratch =
      AttentionScratch::of(args.workspace.data, args.cache.head_dim, worker.index);
  with_float_type(args.cache.dtype, [&]<typename T>() {
    AttentionTile now{};
    bool any = false;
    for_sparse_tiles(args, worker, [&](const AttentionTile& tile) {
      if (any) AttentionTileWork<V, T, SparseAttentionArgs>(args, scratch, now).run(&tile);
      now = tile;
      any = true;
    });
    if (any) AttentionTileWork<V, T, SparseAttentionArgs>(args, scratch, now).run(nullptr);
  });
}

}  // namespace lockstep
