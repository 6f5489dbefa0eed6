// paged_attention over a vector type: the body of the AVX2 and AVX-512 kernels.
//
// A tile is up to 64 query vectors of one sequence and kv head. It walks the sequence's blocks of 64 tokens
// from position 0: keys transposed to f32, scores, online softmax, values. What a vector gets depends on its
// own tokens alone: every score is one chain over d, every sum one chain over tokens, tokens that it does not
// see are selected out of the scores and left out of the sums.
#pragma once

#include "kernels/common/simd_math.h"
#include "kernels/common/simd_rows.h"
#include "kernels/paged_attention/attention_items.h"
#include "kernels/paged_attention/attention_products.h"
#include "kernels/paged_attention/paged_attention_kernels.h"

namespace lockstep {

// Above this many query vectors, values are converted to f32 once per block instead of once per four vectors.
inline constexpr int64_t kWidenVectors = 8;

template <typename V, typename T>
class AttentionTileWork {
 public:
  using Reg = typename V::Reg;

  AttentionTileWork(const PagedAttentionArgs& args, const AttentionScratch& scratch,
                    const AttentionSequence& sequence, const AttentionTile& tile)
      : args_(args), scratch_(scratch), sequence_(sequence), tile_(tile) {
    group_ = args.q.dim(1) / args.cache.heads;
    head_dim_ = args.cache.head_dim;
    width_ = AttentionScratch::width(head_dim_);
    for (int64_t m = 0; m < tile.count; ++m) {
      query_[m] = static_cast<const float*>(args.q.data) + offset(args.q, m);
      scratch_.maxima[m] = -__builtin_inff();
    }
    for (int64_t i = 0; i < tile.count * width_; i += V::kWidth) V::store(scratch_.sums + i, V::zero());
    for (int64_t i = 0; i < tile.count * kAttentionLanes; i += V::kWidth) {
      V::store(scratch_.totals + i, V::zero());
    }
  }

  void run() {
    const int64_t tokens = visible(tile_.count - 1);
    for (int64_t first = 0; first < tokens; first += kAttentionBlock) visit(first, tokens);
    for (int64_t m = 0; m < tile_.count; ++m) finish(m);
  }

 private:
  // Where vector m of the tile lies in q or out.
  int64_t offset(const TensorView& view, int64_t m) const {
    const int64_t vector = tile_.first + m;
    const int64_t row = sequence_.first_row + vector / group_;
    return row * view.stride(0) + (tile_.kv_head * group_ + vector % group_) * view.stride(1);
  }
  // Tokens that vector m sees.
  int64_t visible(int64_t m) const { return sequence_.cached + (tile_.first + m) / group_ + 1; }
  // How many of a block's tokens vector m sees.
  int64_t visible_in(int64_t first, int64_t m) const {
    const int64_t left = visible(m) - first;
    return left < 0 ? 0 : left < kAttentionBlock ? left : kAttentionBlock;
  }

  void visit(int64_t first, int64_t tokens) {
    const KvView& cache = args_.cache;
    const int64_t count = tokens - first < kAttentionBlock ? tokens - first : kAttentionBlock;
    T* gathered = reinterpret_cast<T*>(scratch_.gathered);
    BlockRows<T> rows;
    find_rows<V>(cache, cache.k, sequence_.pages, tile_.kv_head, first, count, gathered, rows);
    transpose_keys<V>(rows, head_dim_, scratch_.block);
    score();
    for (int64_t m = 0; m < tile_.count; ++m) soften(m, visible_in(first, m));
    find_rows<V>(cache, cache.v, sequence_.pages, tile_.kv_head, first, count, gathered, rows);
    if constexpr (sizeof(T) < sizeof(float)) {
      if (tile_.count > kWidenVectors) {
        BlockRows<float> widened;
        widen_values<V>(rows, head_dim_, scratch_.block, widened);
        sum_values(widened, first);
        return;
      }
    }
    sum_values(rows, first);
  }

  void score() {
    const float* keys = scratch_.block;
    int64_t m = 0;
    for (; m + 4 <= tile_.count; m += 4) score_vectors<V, 4>(query_ + m, keys, head_dim_, scores(m));
    if (m + 2 <= tile_.count) {
      score_vectors<V, 2>(query_ + m, keys, head_dim_, scores(m));
      m += 2;
    }
    if (m < tile_.count) score_vectors<V, 1>(query_ + m, keys, head_dim_, scores(m));
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

  template <typename Value>
  void sum_values(const BlockRows<Value>& values, int64_t first) {
    int64_t m = 0;
    for (; m + 4 <= tile_.count; m += 4) sum_vectors<Value, 4>(values, first, m);
    if (m + 2 <= tile_.count) {
      sum_vectors<Value, 2>(values, first, m);
      m += 2;
    }
    if (m < tile_.count) sum_vectors<Value, 1>(values, first, m);
  }

  // Vectors of later rows see more: what all M see goes together, the rest one vector at a time.
  template <typename Value, int M>
  void sum_vectors(const BlockRows<Value>& values, int64_t first, int64_t m) {
    const int64_t common = visible_in(first, m);
    if (common > 0) add_values<V, Value, M>(value_sums(values, m, 0, common), head_dim_);
    if constexpr (M > 1) {
      for (int64_t i = m + (common > 0 ? 1 : 0); i < m + M; ++i) {
        const int64_t seen = visible_in(first, i);
        if (seen == common) continue;
        ValueSums<Value> rest = value_sums(values, i, common, seen);
        if (common > 0) rest.corrections = &kNoCorrection;
        add_values<V, Value, 1>(rest, head_dim_);
      }
    }
  }

  template <typename Value>
  ValueSums<Value> value_sums(const BlockRows<Value>& values, int64_t m, int64_t begin, int64_t end) const {
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

  float* scores(int64_t m) const { return scratch_.scores + m * kAttentionBlock; }

  static constexpr int kVectors = static_cast<int>(kAttentionBlock) / V::kWidth;
  static constexpr float kNoCorrection = 1.0f;

  const PagedAttentionArgs& args_;
  const AttentionScratch scratch_;
  const AttentionSequence sequence_;
  const AttentionTile tile_;
  int64_t group_ = 0;
  int64_t head_dim_ = 0;
  int64_t width_ = 0;
  const float* query_[kAttentionTile];
};

// Rows that no live sequence owns become zero.
template <typename V>
void zero_idle_rows(const PagedAttentionArgs& args, Worker worker) {
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

template <typename V>
void paged_attention_body(const PagedAttentionArgs& args, Worker worker) {
  zero_idle_rows<V>(args, worker);
  const AttentionScratch scratch =
      AttentionScratch::of(args.workspace.data, args.cache.head_dim, worker.index);
  with_float_type(args.cache.dtype, [&]<typename T>() {
    for_attention_tiles(args, worker, [&](const AttentionSequence& sequence, const AttentionTile& tile) {
      AttentionTileWork<V, T>(args, scratch, sequence, tile).run();
    });
  });
}

}  // namespace lockstep
