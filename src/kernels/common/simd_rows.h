// Walks over one row of f32 in lanes of a vector type. Forced inline, as the vector types are.
#pragma once

#include <cstdint>

namespace lockstep {

template <typename V>
[[gnu::always_inline]] inline typename V::Reg load_lanes(const float* p, int64_t n) {
  return n == V::kWidth ? V::load(p) : V::load_n(p, n);
}

template <typename V>
[[gnu::always_inline]] inline void store_lanes(float* p, typename V::Reg x, int64_t n) {
  n == V::kWidth ? V::store(p, x) : V::store_n(p, x, n);
}

// Calls body(i, n) for the row's pieces of n = V::kWidth elements, and once more for what is left.
template <typename V, typename Body>
[[gnu::always_inline]] inline void for_lanes(int64_t width, Body&& body) {
  int64_t i = 0;
  for (; i + V::kWidth <= width; i += V::kWidth) body(i, static_cast<int64_t>(V::kWidth));
  if (i < width) body(i, width - i);
}

template <typename V>
[[gnu::always_inline]] inline void zero_row(float* out, int64_t width) {
  for_lanes<V>(width, [&](int64_t i, int64_t n) { store_lanes<V>(out + i, V::zero(), n); });
}

// 1 / sqrt(mean of squares + epsilon) in every lane, of the row whose elements [i, i + n) elements(i, n)
// yields, lanes past n zero. Four sums hide the latency of the multiply-add; which element goes into which
// depends on the width alone, and so does the order of summation.
template <typename V, typename Elements>
[[gnu::always_inline]] inline typename V::Reg inverse_rms(int64_t width, float epsilon, Elements&& elements) {
  using Reg = typename V::Reg;
  Reg sums[4] = {V::zero(), V::zero(), V::zero(), V::zero()};
  int64_t begin = 0;
  for (; begin + 4 * V::kWidth <= width; begin += 4 * V::kWidth) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const Reg x = elements(begin + j * V::kWidth, V::kWidth);
      sums[j] = V::fma(x, x, sums[j]);
    }
  }
  for_lanes<V>(width - begin, [&](int64_t i, int64_t n) {
    const Reg x = elements(begin + i, n);
    sums[0] = V::fma(x, x, sums[0]);
  });
  const float total = V::reduce_add(V::add(V::add(sums[0], sums[1]), V::add(sums[2], sums[3])));
  const Reg mean = V::div(V::set1(total), V::set1(static_cast<float>(width)));
  return V::div(V::set1(1.0f), V::sqrt(V::add(mean, V::set1(epsilon))));
}

}  // namespace lockstep
