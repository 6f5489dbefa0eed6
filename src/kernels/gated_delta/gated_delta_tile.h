// Small dense products in registers, and the normalised rows they work on, over a vector type.
#pragma once

#include "kernels/common/simd_rows.h"
#include "kernels/gated_delta/gated_delta_kernels.h"

namespace lockstep {

// A tile of kRows x kColumns sums lives in half of the registers; kColumns is also the width of a panel of
// the state, whose Dk rows of it stay in the first cache (128 rows: 16 KiB of AVX-512, 8 KiB of AVX2).
template <typename V>
struct DeltaTile {
  static constexpr int kRows = V::kRegisters / 4;
  static constexpr int kColumns = 2 * V::kWidth;
  typename V::Reg sum[kRows][2];

  [[gnu::always_inline]] void clear() {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sum[r][0] = sum[r][1] = V::zero();
  }

  // sum[r] += left[r, 0..depth) * right[0..depth), rows of left and right at these distances.
  [[gnu::always_inline]] void multiply(const float* left, int64_t left_stride, const float* right,
                                       int64_t right_stride, int64_t depth) {
    for (int64_t d = 0; d < depth; ++d) {
      const auto first = V::load(right + d * right_stride);
      const auto second = V::load(right + d * right_stride + V::kWidth);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const auto factor = V::set1(left[r * left_stride + d]);
        sum[r][0] = V::fma(factor, first, sum[r][0]);
        sum[r][1] = V::fma(factor, second, sum[r][1]);
      }
    }
  }

  // Rows in turn: sum[r] += left[r, 0..r) * sum[0..r).
  [[gnu::always_inline]] void substitute(const float* left, int64_t left_stride) {
#pragma GCC unroll 8
    for (int r = 1; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int s = 0; s < r; ++s) {
        const auto factor = V::set1(left[r * left_stride + s]);
        sum[r][0] = V::fma(factor, sum[s][0], sum[r][0]);
        sum[r][1] = V::fma(factor, sum[s][1], sum[r][1]);
      }
    }
  }

  // sum[r] += left[r, 0..r] * right[0..r]: a later row must not touch an earlier one, not even times zero.
  [[gnu::always_inline]] void add_lower(const float* left, int64_t left_stride, const float* right) {
#pragma GCC unroll 8
    for (int s = 0; s < kRows; ++s) {
      const auto first = V::load(right + s * kColumns);
      const auto second = V::load(right + s * kColumns + V::kWidth);
#pragma GCC unroll 8
      for (int r = s; r < kRows; ++r) {
        const auto factor = V::set1(left[r * left_stride + s]);
        sum[r][0] = V::fma(factor, first, sum[r][0]);
        sum[r][1] = V::fma(factor, second, sum[r][1]);
      }
    }
  }

  // Lanes of half `h` of the tile that a row of `width` elements fills from column `begin` on.
  [[gnu::always_inline]] static int64_t lanes(int64_t begin, int h, int64_t width) {
    const int64_t left = width - begin - h * V::kWidth;
    return left < 0 ? 0 : left < V::kWidth ? left : V::kWidth;
  }
};

// to[0..size) = x / sqrt(sum of squares + 1e-6) * scale.
template <typename V>
[[gnu::always_inline]] inline void l2_normalise(const float* x, int64_t size, float scale, float* to) {
  auto squares = V::zero();
  for_lanes<V>(size, [&](int64_t i, int64_t n) {
    const auto part = load_lanes<V>(x + i, n);
    squares = V::fma(part, part, squares);
  });
  const auto norm = V::sqrt(V::set1(V::reduce_add(squares) + 1e-6f));
  const auto factor = V::div(V::set1(scale), norm);
  for_lanes<V>(size, [&](int64_t i, int64_t n) {
    store_lanes<V>(to + i, V::mul(load_lanes<V>(x + i, n), factor), n);
  });
}

}  // namespace lockstep
