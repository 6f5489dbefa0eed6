// The work of one tile over a vector type: what paged_attention and sparse_attention are made of.
//
// A tile is up to 64 query vectors of one sequence. It walks its blocks of 64 tokens, ascending: scores,
// online softmax, values, for each of its kv heads. What a vector gets depends on its own tokens alone: every
// score is one chain over d, every sum one chain over tokens, tokens that it does not see are selected out of
// the scores and left out of the sums. A block of which a vector sees nothing leaves no trace in it.
#pragma once

#include "kernels/common/simd_math.h"
#include "kernels/common/simd_rows.h"
#include "kernels/paged_attention/attention_items.h"
#include "kernels/paged_attention/attention_products.h"

namespace lockstep {

// Up to this many vectors of a head, values are converted to f32 where they are multiplied, once per four
// vectors; above, once per block.
inline constexpr int64_t kFewVectors = 8;

// Args: with q, cache, out and scale.
template <typename V, typename T, typename Args>
class AttentionTileWork {
 public:
  using Reg = typename V::Reg;

  AttentionTileWork(const Args& args, const AttentionScratch& scratch, const AttentionTile& tile)
      : args_(args), scratch_(scratch), tile_(tile) {
    group_ = args.q.dim(1) / args.cache.heads;
    head_dim_ = args.cache.head_dim;
    width_ = AttentionScratch::width(head_dim_);
    vectors_ = tile.heads * tile.count;
    for (int64_t m = 0; m < vectors_; ++m) {
      query_[m] = static_cast<const float*>(args.q.data) + offset(args.q, m);
      scratch_.maxima[m] = -__builtin_inff();
    }
    for (int64_t i = 0; i < vectors_ * width_; i += V::kWidth) V::store(scratch_.sums + i, V::zero());
    for (int64_t i = 0; i < vectors_ * kAttentionLanes; i += V::kWidth) {
      V::store(scratch_.totals + i, V::zero());
    }
  }

  // Computes the tile's rows of out. Memory is asked for one block ahead: at the end, for the first block of
  // the tile that is done `after` this one, which may be null.
  void run(const AttentionTile* after) {
    const int64_t blocks = tile_.blocks(group_);
    find(tile_, 0, 0);
    int now = 0;
    for (int64_t i = 0; i < blocks; ++i, now = 1 - now) {
      const int64_t first = tile_.first_token(i);
      RowsAhead<V, T> keys_ahead, values_ahead;
      const bool last = i + 1 == blocks;
      const AttentionTile* then = last ? after : &tile_;
      const int64_t next = last ? 0 : i + 1;
      if (then != nullptr && find(*then, 1 - now, next)) {
        const int64_t token = then->first_token(next);
        keys_ahead = {args_.cache.k, args_.cache, keys_[1 - now], token, then->heads};
        values_ahead = {args_.cache.v, args_.cache, values_[1 - now], token, then->heads};
      }
      for (int64_t head = 0; head < tile_.heads; ++head) {
        visit_keys(now, head, keys_ahead);
        const int64_t m = head * tile_.count;
        for (int64_t vector = 0; vector < tile_.count; ++vector)
          soften(m + vector, visible_in(first, vector));
        visit_values(now, head, first, values_ahead);
      }
    }
    for (int64_t m = 0; m < vectors_; ++m) finish(m);
  }

 private:
  // Where vector m of the tile lies in q or out.
  int64_t offset(const TensorView& view, int64_t m) const {
    const int64_t head = tile_.kv_head + m / tile_.count, vector = tile_.first + m % tile_.count;
    const int64_t row = tile_.sequence.first_row + vector / group_;
    return row * view.stride(0) + (head * group_ + vector % group_) * view.stride(1);
  }
  // How many tokens of the block from `first` on vector i of a head sees.
  int64_t visible_in(int64_t first, int64_t i) const {
    const int64_t left = tile_.visible(i, group_) - first;
    return left < 0 ? 0 : left < kAttentionBlock ? left : kAttentionBlock;
  }
  float* scores(int64_t m) const { return scratch_.scores + m * kAttentionBlock; }

  // Finds where the i-th block of a tile lies. False where it has no such block.
  bool find(const AttentionTile& tile, int slot, int64_t i) {
    const KvView& cache = args_.cache;
    if (i >= tile.blocks(group_)) return false;
    const int64_t first = tile.first_token(i);
    const int64_t left = tile.tokens(group_) - first, count = left < kAttentionBlock ? left : kAttentionBlock;
    if (count <= 0) return false;
    const int32_t* pages = tile.sequence.pages;
    find_tokens<V>(cache.k, cache.page_tokens, pages, tile.kv_head, first, count, keys_[slot]);
    find_tokens<V>(cache.v, cache.page_tokens, pages, tile.kv_head, first, count, values_[slot]);
    return true;
  }
  // One head of a block, its elements side by side.
  HeadRows<T> rows_of(const KvPlane& plane, const BlockTokens<T>& tokens, int64_t head) {
    const HeadRows<T> rows{tokens.at, head * plane.head_stride};
    if (plane.chunk == head_dim_) return rows;
    return gather_rows<V>(plane, rows, head_dim_, reinterpret_cast<T*>(scratch_.gathered), gathered_);
  }

  void visit_keys(int now, int64_t head, RowsAhead<V, T>& ahead) {
    const HeadRows<T> rows = rows_of(args_.cache.k, keys_[now], head);
    const int64_t first = head * tile_.count;
    if (tile_.count <= kVectorsTogether) {
      for_vectors(tile_.count, [&]<int M>(int64_t m) {
        score_few<V, T, M>(query_ + first + m, rows, head_dim_, ahead, scores(first + m));
      });
      return;
    }
    transpose_keys<V>(rows, head_dim_, ahead, scratch_.block);
    for_vectors(tile_.count, [&]<int M>(int64_t m) {
      score_vectors<V, M>(query_ + first + m, scratch_.block, head_dim_, scores(first + m));
    });
  }

  // Vector m's scores of the block become weights relative to the largest score so far; what was summed
  // before is corrected for a larger one. A vector that sees nothing of the block keeps what it has.
  void soften(int64_t m, int64_t seen) {
    if (seen == 0) return;
    const Reg hidden = V::set1(-__builtin_inff());
    Reg score[kVectors], top = hidden;
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) {
      const int64_t left = seen - i * V::kWidth;
      const Reg raw = V::mul(V::load(scores(m) + i * V::kWidth), V::set1(args_.scale));
      score[i] = left >= V::kWidth ? raw : V::select(V::first(left < 0 ? 0 : left), raw, hidden);
      top = V::max(score[i], top);
    }
    const float before = scratch_.maxima[m], largest = V::reduce_max(top);
    const float after = largest > before ? largest : before;
    // Where every score so far is -inf, any finite base gives weights of zero instead of inf - inf.
    const Reg base = V::set1(after == -__builtin_inff() ? 0.0f : after);
    const Reg correction = simd_exp<V>(V::sub(V::set1(before), base));
    Reg total = V::mul(V::load(scratch_.totals + m * kAttentionLanes), correction);
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) {
      const Reg weight = simd_exp<V>(V::sub(score[i], base));
      V::store(scores(m) + i * V::kWidth, weight);
      total = V::add(total, weight);
    }
    V::store(scratch_.totals + m * kAttentionLanes, total);
    V::store_n(scratch_.corrections + m, correction, 1);
    scratch_.maxima[m] = after;
  }

  void visit_values(int now, int64_t head, int64_t first, RowsAhead<V, T>& ahead) {
    const HeadRows<T> rows = rows_of(args_.cache.v, values_[now], head);
    if constexpr (sizeof(T) < sizeof(float)) {
      if (tile_.count > kFewVectors) {
        BlockTokens<float> widened;
        const auto values = widen_values<V>(rows, head_dim_, ahead, scratch_.block, widened);
        NothingAhead nothing;
        return sum_values(values, head, first, nothing);
      }
    }
    sum_values(rows, head, first, ahead);
  }

  // Vectors of later rows see more: what a group of vectors sees goes together, the rest one vector at a
  // time.
  template <typename Value, typename Ahead>
  void sum_values(const HeadRows<Value>& values, int64_t head, int64_t first, Ahead& ahead) {
    const int64_t base = head * tile_.count;
    for_vectors(tile_.count, [&]<int M>(int64_t m) {
      const int64_t common = visible_in(first, m);
      if (common > 0) add_values<V, Value, M>(value_sums(values, base + m, 0, common), head_dim_, ahead);
      if constexpr (M > 1) {
        for (int64_t i = common > 0 ? m + 1 : m; i < m + M; ++i) {
          const int64_t seen = visible_in(first, i);
          if (seen == common) continue;
          ValueSums<Value> rest = value_sums(values, base + i, common, seen);
          if (common > 0) rest.corrections = &kNoCorrection;
          add_values<V, Value, 1>(rest, head_dim_, ahead);
        }
      }
    });
  }

  template <typename Value>
  ValueSums<Value> value_sums(const HeadRows<Value>& values, int64_t m, int64_t begin, int64_t end) const {
    return {.values = values,
            .weights = scores(m),
            .corrections = scratch_.corrections + m,
            .sums = scratch_.sums + m * width_,
            .width = width_,
            .begin = begin,
            .end = end};
  }

  // out = sums / total, or zeros for a vector that saw nothing, or only scores of -inf.
  void finish(int64_t m) {
    float* out = static_cast<float*>(args_.out.data) + offset(args_.out, m);
    const float* sums = scratch_.sums + m * width_;
    const float total = V::reduce_add(V::load(scratch_.totals + m * kAttentionLanes));
    const Reg divisor = V::set1(total == 0.0f ? 1.0f : total);
    for_lanes<V>(head_dim_, [&](int64_t i, int64_t n) {
      store_lanes<V>(out + i, V::div(load_lanes<V>(sums + i, n), divisor), n);
    });
  }

  static constexpr int kVectors = static_cast<int>(kAttentionBlock) / V::kWidth;
  static constexpr float kNoCorrection = 1.0f;

  const Args& args_;
  const AttentionScratch scratch_;
  const AttentionTile tile_;
  int64_t group_ = 0;
  int64_t head_dim_ = 0;
  int64_t width_ = 0;
  int64_t vectors_ = 0;
  const float* query_[kAttentionTile];
  BlockTokens<T> keys_[2];  // of the block in work and of the next
  BlockTokens<T> values_[2];
  BlockTokens<T> gathered_;
};

// Rows that no live sequence owns become zero.
template <typename V, typename Args>
void zero_idle_rows(const Args& args, Worker worker) {
  const auto* starts = static_cast<const int32_t*>(args.query_start_loc.data);
  const int64_t first = starts[0], owned = starts[args.num_seqs->get()], live = args.num_rows->get();
  const auto [begin, end] = worker.share(args.out.dim(0));
  for (int64_t t = begin; t < end; ++t) {
    if (t >= first && t < owned && t < live) continue;
    for (int64_t h = 0; h < args.out.dim(1); ++h) {
      zero_row<V>(static_cast<float*>(args.out.data) + t * args.out.stride(0) + h * args.out.stride(1),
                  args.out.dim(2));
    }
  }
}

}  // namespace lockstep
