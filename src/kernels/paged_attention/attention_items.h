// Which work there is in a call of paged_attention, and which of it a worker does. Forced inline: the kernels
// of all instruction sets use it.
#pragma once

#include <cstdint>

#include "kernels/paged_attention/attention_scratch.h"

namespace lockstep {

// The live rows of one sequence.
struct AttentionSequence {
  const int32_t* pages;  // of its tokens, from position 0
  int64_t first_row;     // in q
  int64_t rows;          // that are live
  int64_t cached;        // tokens before the first row: its position

  template <typename Args>
  [[gnu::always_inline]] static AttentionSequence at(const Args& args, int64_t s) {
    const auto* starts = static_cast<const int32_t*>(args.query_start_loc.data);
    const int64_t begin = starts[s], end = starts[s + 1], live = args.num_rows->get();
    const int64_t table_row = static_cast<const int32_t*>(args.table_rows.data)[s];
    return {
        .pages = static_cast<const int32_t*>(args.page_table.data) + table_row * args.page_table.stride(0),
        .first_row = begin,
        .rows = (end < live ? end : live) - begin,
        .cached = static_cast<const int32_t*>(args.seq_lens.data)[s] - (end - begin)};
  }
};

// A run of query vectors of one sequence for each of some kv heads. Vector n of a kv head is row n / G, head
// n % G of the kv head's G.
struct AttentionTile {
  AttentionSequence sequence;
  int64_t kv_head;
  int64_t heads;                    // kv heads
  int64_t first;                    // vector of each head
  int64_t count;                    // vectors of each head
  const int32_t* chosen = nullptr;  // blocks of tokens that the vectors see, ascending; null: all
  int64_t num_chosen = 0;

  // Tokens that vector i of each head sees.
  [[gnu::always_inline]] int64_t visible(int64_t i, int64_t group) const {
    return sequence.cached + (first + i) / group + 1;
  }
  // Tokens that any vector sees, were all blocks chosen.
  [[gnu::always_inline]] int64_t tokens(int64_t group) const { return visible(count - 1, group); }
  // Blocks that the tile walks, and the first token of the i-th.
  [[gnu::always_inline]] int64_t blocks(int64_t group) const {
    const int64_t all = tokens(group);
    return chosen != nullptr ? num_chosen : all <= 0 ? 0 : (all + kAttentionBlock - 1) / kAttentionBlock;
  }
  [[gnu::always_inline]] int64_t first_token(int64_t i) const {
    return (chosen != nullptr ? chosen[i] : i) * kAttentionBlock;
  }
};

// The tiles of one sequence and kv head, and what they cost.
struct AttentionTiles {
  int64_t group;   // G
  int64_t rows;    // of the sequence
  int64_t cached;  // tokens before them

  [[gnu::always_inline]] int64_t vectors() const { return rows > 0 ? rows * group : 0; }
  [[gnu::always_inline]] int64_t count() const { return (vectors() + kAttentionTile - 1) / kAttentionTile; }
  [[gnu::always_inline]] int64_t size(int64_t tile) const {
    const int64_t left = vectors() - tile * kAttentionTile;
    return left < kAttentionTile ? left : kAttentionTile;
  }
  // Tokens that the tile's last vector sees.
  [[gnu::always_inline]] int64_t visible(int64_t tile) const {
    return cached + (tile * kAttentionTile + size(tile) - 1) / group + 1;
  }
  // In units of one query vector against one block. Loading a block costs about as much as four of them, in
  // bandwidth when few vectors share it.
  [[gnu::always_inline]] int64_t cost(int64_t tile) const {
    const int64_t tokens = visible(tile);
    return tokens <= 0 ? 1 : (tokens + kAttentionBlock - 1) / kAttentionBlock * (size(tile) + 4);
  }
  [[gnu::always_inline]] int64_t cost() const {
    int64_t sum = 0;
    for (int64_t tile = 0; tile < count(); ++tile) sum += cost(tile);
    return sum;
  }
};

// Up to how many kv heads of a sequence go through the cache together, when one tile holds all its vectors:
// pages hold all heads of a token close to each other, and memory is fast in order only. The second bound
// keeps two blocks of the heads, one in work and one on its way, to half of a second-level cache of 1 MiB.
[[gnu::always_inline]] inline int64_t heads_together(const PagedAttentionArgs& args, int64_t vectors) {
  constexpr int64_t kBytes = int64_t{256} << 10;
  const int64_t element = args.cache.dtype == DType::kF32 ? 4 : 2;
  const int64_t block = 2 * kAttentionBlock * args.cache.head_dim * element;
  const int64_t by_vectors = kAttentionTile / vectors, by_bytes = kBytes / block;
  const int64_t heads = by_vectors < by_bytes ? by_vectors : by_bytes;
  return heads < 1 ? 1 : heads;
}

// Calls body(tile) for the worker's share: all tiles of all kv heads in one line, cut where the cost is even.
// Which worker does a tile, and with which other heads, does not change its result.
template <typename Body>
[[gnu::always_inline]] inline void for_attention_tiles(const PagedAttentionArgs& args, Worker worker,
                                                       Body&& body) {
  const int64_t kv_heads = args.cache.heads, group = args.q.dim(1) / kv_heads;
  const int64_t sequences = args.num_seqs->get();
  int64_t total = 0;
  for (int64_t s = 0; s < sequences; ++s) {
    const AttentionSequence sequence = AttentionSequence::at(args, s);
    total += kv_heads * AttentionTiles{group, sequence.rows, sequence.cached}.cost();
  }
  const int64_t begin = total * worker.index / worker.count;
  const int64_t end = total * (worker.index + 1) / worker.count;
  int64_t at = 0;  // cost of all tiles before
  for (int64_t s = 0; s < sequences && at < end; ++s) {
    const AttentionSequence sequence = AttentionSequence::at(args, s);
    const AttentionTiles tiles{group, sequence.rows, sequence.cached};
    const int64_t head_cost = tiles.cost();
    const int64_t together = tiles.count() == 1 ? heads_together(args, tiles.vectors()) : 1;
    for (int64_t head = 0, heads = 1; head < kv_heads && at < end; head += heads) {
      heads = 1;
      if (at + head_cost <= begin) {
        at += head_cost;
        continue;
      }
      if (together > 1 && at >= begin) {
        while (heads < together && head + heads < kv_heads && at + heads * head_cost < end) ++heads;
        body(AttentionTile{sequence, head, heads, 0, tiles.vectors()});
        at += heads * head_cost;
        continue;
      }
      for (int64_t tile = 0; tile < tiles.count(); ++tile) {
        if (at >= begin && at < end) {
          body(AttentionTile{sequence, head, 1, tile * kAttentionTile, tiles.size(tile)});
        }
        at += tiles.cost(tile);
      }
    }
  }
}

}  // namespace lockstep
