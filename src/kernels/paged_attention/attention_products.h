// The two matrix products of attention on one block: scores = queries keys, sums += weights values. A query
// vector's arithmetic is one chain per element whatever vectors are computed beside it.
#pragma once

#include <cstdint>

#include "kernels/paged_attention/attention_block.h"

namespace lockstep {

// Query vectors that a product keeps in registers.
inline constexpr int64_t kVectorsTogether = 4;

// Vectors of lanes beside each other: 4 rows of these leave room for the operands.
template <typename V>
inline constexpr int kSumVectors = V::kRegisters == 32 ? 4 : 2;

// Calls body.operator()<M>(m) for vectors m, m + 1, ... m + M - 1 until all `count` were named once.
template <typename Body>
[[gnu::always_inline]] inline void for_vectors(int64_t count, Body&& body) {
  int64_t m = 0;
  for (; m + kVectorsTogether <= count; m += kVectorsTogether) body.template operator()<kVectorsTogether>(m);
  switch (count - m) {
    case 3: body.template operator()<3>(m); break;
    case 2: body.template operator()<2>(m); break;
    case 1: body.template operator()<1>(m); break;
    default: break;
  }
}

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

// The same scores for a few query vectors, straight from the rows of the cache: each key is turned and
// converted in registers and never stored. P groups of tokens at once make enough independent chains.
template <typename V, typename T, int M>
void score_few(const float* const* query, const HeadRows<T>& rows, int64_t head_dim, RowsAhead<V, T>& ahead,
               float* scores) {
  using Reg = typename V::Reg;
  constexpr int P = V::kRegisters == 32 ? 2 : 1;
  for (int64_t token = 0; token < kAttentionBlock; token += P * V::kWidth) {
    Reg sums[M][P];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) sums[m][p] = V::zero();
    }
    for_key_columns<V, P>(rows, token, head_dim, ahead, [&](int p, int64_t d, Reg keys) {
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) sums[m][p] = V::fma(V::set1(query[m][d]), keys, sums[m][p]);
    });
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) V::store(scores + m * kAttentionBlock + token + p * V::kWidth, sums[m][p]);
    }
  }
}

// Asks for nothing.
struct NothingAhead {
  template <int64_t kBytes>
  [[gnu::always_inline]] void steps(int64_t /*i*/) {}
};

// What add_values works on: M rows of weights and sums, and the tokens [begin, end) of the block.
template <typename T>
struct ValueSums {
  HeadRows<T> values;
  const float* weights;      // [M, 64]
  const float* corrections;  // [M]
  float* sums;               // [M, width]
  int64_t width;
  int64_t begin;
  int64_t end;
};

// Elements [d, d + N lanes) of the sums; `n` lanes of the last vector are real.
template <typename V, typename T, int M, int N, typename Ahead>
[[gnu::always_inline]] inline void add_value_columns(const ValueSums<T>& at, int64_t d, int64_t n,
                                                     Ahead& ahead) {
  using Reg = typename V::Reg;
  constexpr int64_t kBytes = N * V::kWidth * static_cast<int64_t>(sizeof(T));
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
    ahead.template steps<kBytes>(token);
    const T* row = at.values.at[token] + at.values.offset + d;
    Reg value[N];
#pragma GCC unroll 4
    for (int i = 0; i < N - 1; ++i) value[i] = V::load(row + i * V::kWidth);
    const T* last = row + (N - 1) * V::kWidth;
    value[N - 1] = n == V::kWidth ? V::load(last) : V::load_n(last, n);
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

// sums[m] = sums[m] corrections[m] + sum over tokens, ascending, of weights[m][token] values[token]. Asks for
// as much ahead as it reads.
template <typename V, typename T, int M, typename Ahead>
void add_values(const ValueSums<T>& at, int64_t head_dim, Ahead& ahead) {
  constexpr int N = kSumVectors<V>;
  constexpr int64_t kColumns = N * V::kWidth;
  int64_t d = 0;
  for (; d + kColumns <= head_dim; d += kColumns) add_value_columns<V, T, M, N>(at, d, V::kWidth, ahead);
  for (; d < head_dim; d += V::kWidth) {
    const int64_t left = head_dim - d;
    add_value_columns<V, T, M, 1>(at, d, left < V::kWidth ? left : V::kWidth, ahead);
  }
}

}  // namespace lockstep
