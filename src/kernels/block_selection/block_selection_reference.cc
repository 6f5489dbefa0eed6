#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <vector>

#include "kernels/block_selection/block_lists.h"
#include "kernels/block_selection/block_selection_kernels.h"
#include "kernels/block_selection/select_scratch.h"
#include "kernels/common/elements.h"
#include "kernels/common/simd_math.h"
#include "kernels/compressed_keys/compressed_keys.h"

namespace lockstep::reference {
namespace {

// One f32 with the operations of a vector type, so that exp is the one of all instruction sets.
struct OneLane {
  using Reg = float;
  static float zero() { return 0.0f; }
  static float set1(float x) { return x; }
  static float add(float a, float b) { return a + b; }
  static float mul(float a, float b) { return a * b; }
  static float fma(float a, float b, float c) { return std::fma(a, b, c); }
  static float fnma(float a, float b, float c) { return std::fma(-a, b, c); }
  static float max(float a, float b) { return a > b ? a : b; }
  static float min(float a, float b) { return a < b ? a : b; }
  static float round(float x) { return std::nearbyint(x); }
  static bool less(float a, float b) { return a < b; }
  static float select(bool mask, float yes, float no) { return mask ? yes : no; }
  static float scale_by_power(float x, float n) {
    return std::isnan(n) ? x + n : std::ldexp(x, static_cast<int>(n));
  }
};

// scale * q[h] · window j of the list's sequence and kv head.
float product(const SelectBlocksArgs& args, const BlockList& list, int64_t head, const TensorView& keys,
              int64_t j) {
  const int64_t row = j + 1, per_page = keys.dim(2);
  const int64_t table_row = args.table_rows.as<const int32_t>()[list.sequence];
  const int64_t page =
      args.page_table.as<const int32_t>()[table_row * args.page_table.stride(0) + row / per_page];
  const int64_t at = page * keys.stride(0) + list.kv_head * keys.stride(1) + row % per_page * keys.stride(2);
  const float* q = args.q.as<const float>() + list.row * args.q.stride(0) + head * args.q.stride(1);
  float sum = 0.0f;
  for (int64_t d = 0; d < args.q.dim(2); ++d)
    sum = std::fma(q[d], load_element(keys.data, keys.dtype, at + d), sum);
  return sum * args.scale;
}

// Of one head: the largest product with a window of K2, and 1 / the sum of exp beside it.
struct Normaliser {
  float maximum = -INFINITY;
  float inverse = 0.0f;
};

Normaliser normaliser_of(const SelectBlocksArgs& args, const BlockList& list, int64_t head) {
  Normaliser of;
  std::vector<float> products;
  for (int64_t j = 0; j < kCoarseWindows.complete(list.position + 1); ++j) {
    products.push_back(product(args, list, head, args.k2, j));
    of.maximum = std::max(of.maximum, products.back());
  }
  std::array<float, 16> sums{};
  for (size_t j = 0; j < products.size(); ++j) sums[j % 16] += simd_exp<OneLane>(products[j] - of.maximum);
  for (size_t half = 8; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  of.inverse = 1.0f / sums[0];
  return of;
}

}  // namespace

void select_blocks(const SelectBlocksArgs& args, Worker worker) {
  const int64_t group = args.q.dim(1) / args.k1.dim(1);
  BlockLists lists(args, worker);
  BlockList list;
  while (lists.next(list)) {
    const int64_t windows = kFineWindows.complete(list.position + 1);
    std::vector<float> scores(static_cast<size_t>(windows), 0.0f);
    for (int64_t head = list.kv_head * group; head < (list.kv_head + 1) * group; ++head) {
      const Normaliser of = normaliser_of(args, list, head);
      for (int64_t j = 0; j < windows; ++j) {
        const float weight = simd_exp<OneLane>(product(args, list, head, args.k1, j) - of.maximum);
        scores[static_cast<size_t>(j)] += weight * of.inverse;
      }
    }
    for (float& score : scores) score = std::isnan(score) ? 0.0f : score;
    std::vector<float> pooled(static_cast<size_t>(list.position / kBlockTokens + 1)), ranked(pooled);
    choose_blocks(args, list, {scores.data(), windows, pooled.data(), ranked.data()});
  }
}

}  // namespace lockstep::reference
