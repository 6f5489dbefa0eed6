// select_blocks over a vector type: the body of the AVX2 and AVX-512 kernels. Lanes are windows: every
// product is one chain over d, and 64 windows of compressed keys are turned once for all query heads of the
// group.
#pragma once

#include "kernels/block_selection/block_lists.h"
#include "kernels/block_selection/block_selection_kernels.h"
#include "kernels/block_selection/select_scratch.h"
#include "kernels/common/simd_math.h"
#include "kernels/compressed_keys/compressed_keys.h"
#include "kernels/paged_attention/attention_products.h"

namespace lockstep {

static_assert(kScoreRows == kAttentionBlock, "compressed keys are turned as keys are");

template <typename V, typename T>
class BlockScores {
 public:
  using Reg = typename V::Reg;

  BlockScores(const SelectBlocksArgs& args, const SelectScratch& scratch, const BlockList& list)
      : args_(args), scratch_(scratch), list_(list) {
    group_ = args.q.dim(1) / args.k1.dim(1);
    head_dim_ = args.q.dim(2);
    const int64_t row = static_cast<const int32_t*>(args.table_rows.data)[list.sequence];
    pages_ = static_cast<const int32_t*>(args.page_table.data) + row * args.page_table.stride(0);
    for (int64_t h = 0; h < group_; ++h) {
      query_[h] = static_cast<const float*>(args.q.data) + list.row * args.q.stride(0) +
                  (list.kv_head * group_ + h) * args.q.stride(1);
    }
  }

  // Scores of the windows of K1 that the row sees, into scratch.scores. How many there are.
  int64_t run() {
    normalise();
    const int64_t windows = kFineWindows.complete(list_.position + 1);
    for (int64_t first = 0; first < windows; first += kScoreRows) {
      multiply(args_.k1, first, windows);
      for (int64_t i = 0; i < kScoreRows; i += V::kWidth) {
        Reg score = V::zero();
        for (int64_t h = 0; h < group_; ++h) {
          const Reg product = V::mul(V::load(scratch_.products + h * kScoreRows + i), V::set1(args_.scale));
          const Reg weight = simd_exp<V>(V::sub(product, V::set1(maxima_[h])));
          score = V::add(score, V::mul(weight, V::set1(inverses_[h])));
        }
        V::store(scratch_.scores + first + i, V::select(V::equal(score, score), score, V::zero()));
      }
    }
    return windows;
  }

 private:
  // products[h][i] = q[h] · window first + i; past the last window they are of no meaning.
  void multiply(const TensorView& keys, int64_t first, int64_t windows) {
    const int64_t per_page = keys.dim(2), left = windows - first;
    BlockTokens<T> rows;
    for (int64_t i = 0; i < kScoreRows; ++i) {
      const int64_t row = first + (i < left ? i : 0) + 1;
      rows.at[i] = static_cast<const T*>(keys.data) + pages_[row / per_page] * keys.stride(0) +
                   list_.kv_head * keys.stride(1) + row % per_page * keys.stride(2);
    }
    RowsAhead<V, T> ahead;
    transpose_keys<V>(HeadRows<T>{rows.at, 0}, head_dim_, ahead, scratch_.turned);
    for_vectors(group_, [&]<int M>(int64_t m) {
      score_vectors<V, M>(query_ + m, scratch_.turned, head_dim_, scratch_.products + m * kScoreRows);
    });
  }

  // maxima_ and inverses_ from the windows of K2.
  void normalise() {
    const int64_t windows = kCoarseWindows.complete(list_.position + 1);
    const Reg hidden = V::set1(-__builtin_inff());
    for (int64_t h = 0; h < group_; ++h) maxima_[h] = -__builtin_inff();
    for (int64_t first = 0; first < windows; first += kScoreRows) {
      multiply(args_.k2, first, windows);
      for (int64_t h = 0; h < group_; ++h) {
        Reg top = V::set1(maxima_[h]);
        for (int64_t i = 0; i < kScoreRows; i += V::kWidth) {
          const int64_t left = windows - first - i;
          const Reg raw = V::mul(V::load(scratch_.products + h * kScoreRows + i), V::set1(args_.scale));
          const Reg product = left >= V::kWidth ? raw : V::select(V::first(left < 0 ? 0 : left), raw, hidden);
          V::store(scratch_.coarse + h * scratch_.stride + first + i, product);
          top = V::max(product, top);
        }
        maxima_[h] = V::reduce_max(top);
      }
    }
    for (int64_t h = 0; h < group_; ++h) inverses_[h] = 1.0f / total_of(h, windows);
  }

  // Sixteen sums; past the last window weights are zero.
  float total_of(int64_t h, int64_t windows) const {
    Reg totals[kSums];
#pragma GCC unroll 2
    for (int n = 0; n < kSums; ++n) totals[n] = V::zero();
    for (int64_t first = 0; first < windows; first += 16) {
#pragma GCC unroll 2
      for (int n = 0; n < kSums; ++n) {
        const Reg product = V::load(scratch_.coarse + h * scratch_.stride + first + n * V::kWidth);
        totals[n] = V::add(totals[n], simd_exp<V>(V::sub(product, V::set1(maxima_[h]))));
      }
    }
    return V::reduce_add(kSums == 1 ? totals[0] : V::add(totals[0], totals[kSums - 1]));
  }

  static constexpr int kSums = 16 / V::kWidth;

  const SelectBlocksArgs& args_;
  const SelectScratch scratch_;
  const BlockList list_;
  const int32_t* pages_ = nullptr;
  int64_t group_ = 0;
  int64_t head_dim_ = 0;
  const float* query_[kMostGroupHeads];
  float maxima_[kMostGroupHeads];
  float inverses_[kMostGroupHeads];
};

template <typename V>
void select_blocks_body(const SelectBlocksArgs& args, Worker worker) {
  const int64_t tokens = args.page_table.dim(1) * args.k1.dim(2) * kFineWindows.stride;
  const SelectScratch scratch = SelectScratch::of(args.workspace.data, args.q.dim(2), tokens, worker.index);
  with_float_type(args.k1.dtype, [&]<typename T>() {
    BlockLists lists(args, worker);
    BlockList list;
    while (lists.next(list)) {
      const int64_t windows = BlockScores<V, T>(args, scratch, list).run();
      choose_blocks(args, list, {scratch.scores, windows, scratch.pooled, scratch.ranked});
    }
  });
}

}  // namespace lockstep
