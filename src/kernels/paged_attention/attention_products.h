// The two matrix products of attention on one block: scores = queries keys, sums += weights values. A query
// vector's arithmetic is one chain per element whatever vectors are computed beside it.
#pragma once

#include <cstdint>

#include "kernels/paged_attention/attention_block.h"

namespace lockstep {

// Vectors of sums beside each other: 4 rows of these leave room for the operands.
template <typename V>
inline constexpr int kSumVectors = V::kRegisters == 32 ? 4 : 2;

// scores[m][token] = sum over d, ascending, of query[m][d] keys[d][token], for M query vectors.
template <typename V, int M>
void score_vectors(const float* const* query, const float* keys, int64_t head_dim, float* scores) {
  using Reg = typename V::Reg;
  constexpr int N = kSumVectors<V>;
  for (int64_t token = 0; token < kAttentionBlock; token += N * V::kWidth) {
    Reg sums[M][N];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sums[m][n] = V::zero();
    }
    const float* key = keys + token;
    for (int64_t d = 0; d < head_dim; ++d, key += kAttentionBlock) {
      Reg lanes[N];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) lanes[n] = V::load(key + n * V::kWidth);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const Reg factor = V::set1(query[m][d]);
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) sums[m][n] = V::fma(factor, lanes[n], sums[m][n]);
      }
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) V::store(scores + m * kAttentionBlock + token + n * V::kWidth, sums[m][n]);
    }
  }
}

// What add_values works on: M rows of weights and sums, and the tokens [begin, end) of the block.
template <typename T>
struct ValueSums {
  const BlockRows<T>& values;
  const float* weights;      // [M, 64]
  const float* corrections;  // [M]
  float* sums;               // [M, width]
  int64_t width;
  int64_t begin;
  int64_t end;
};

// Elements [d, d + N lanes) of the sums; `n` lanes of the last vector are real.
template <typename V, typename T, int M, int N>
[[gnu::always_inline]] inline void add_value_columns(const ValueSums<T>& at, int64_t d, int64_t n) {
  using Reg = typename V::Reg;
  Reg sums[M][N];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    const Reg correction = V::set1(at.corrections[m]);
#pragma GCC unroll 4
    for (int i = 0; i < N; ++i) {
      sums[m][i] = V::mul(V::load(at.sums + m * at.width + d + i * V::kWidth), correction);
    }
  }
  for (int64_t token = at.begin; token < at.end; ++token) {
    const T* row = at.values.row[token] + d;
    Reg value[N];
#pragma GCC unroll 4
    for (int i = 0; i < N - 1; ++i) value[i] = V::load(row + i * V::kWidth);
    value[N - 1] =
        n == V::kWidth ? V::load(row + (N - 1) * V::kWidth) : V::load_n(row + (N - 1) * V::kWidth, n);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const Reg weight = V::set1(at.weights[m * kAttentionBlock + token]);
#pragma GCC unroll 4
      for (int i = 0; i < N; ++i) sums[m][i] = V::fma(weight, value[i], sums[m][i]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
    for (int i = 0; i < N; ++i) V::store(at.sums + m * at.width + d + i * V::kWidth, sums[m][i]);
  }
}

// sums[m] = sums[m] corrections[m] + sum over tokens, ascending, of weights[m][token] values[token].
template <typename V, typename T, int M>
void add_values(const ValueSums<T>& at, int64_t head_dim) {
  constexpr int N = kSumVectors<V>;
  int64_t d = 0;
  for (; d + N * V::kWidth <= head_dim; d += N * V::kWidth) add_value_columns<V, T, M, N>(at, d, V::kWidth);
  for (; d + V::kWidth <= head_dim; d += V::kWidth) add_value_columns<V, T, M, 1>(at, d, V::kWidth);
  if (d < head_dim) add_value_columns<V, T, M, 1>(at, d, head_dim - d);
}

}  // namespace lockstep
