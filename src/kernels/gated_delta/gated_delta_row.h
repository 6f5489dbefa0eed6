// One step of the recurrence of gated_delta for one value head, over a vector type: what decoding does.
#pragma once

#include "kernels/gated_delta/gated_delta_tile.h"

namespace lockstep {

// One row of one head, ready to be applied to the state.
struct DeltaRow {
  const float* key;    // [Dk], normalised
  const float* query;  // [Dk], normalised and scaled
  const float* value;  // [Dv]
  float* out;          // [Dv]
  int64_t keys = 0;    // Dk
  int64_t values = 0;  // Dv
  float decay = 0;
  float beta = 0;
};

// Asks for what lies one state further on, the next head's. Half of it is asked for by either pass over the
// state, for the second runs from the cache and would leave the memory idle (EPYC, one thread, 128 MiB of
// states: 26 GB/s without, 29 with; scaling them in place reaches 40).
[[gnu::always_inline]] inline void fetch_next_head(const DeltaRow& row, const float* at) {
  __builtin_prefetch(at + row.keys * row.values, 0, 2);
}

// Columns [column, column + kVectors * kWidth) of the step; only the first `width` of them exist. Reads the
// state at `from` (null: zeros), writes it to `to` (null: nowhere). The columns are read twice, the second
// time from the cache: the update needs the prediction of the whole column first.
template <typename V, int kVectors>
[[gnu::always_inline]] inline void delta_row_columns(const DeltaRow& row, const float* from, float* to,
                                                     int64_t column, int64_t width) {
  using Reg = typename V::Reg;
  const bool whole = width == kVectors * V::kWidth;
  const auto lanes = [&](int j) { return whole ? V::kWidth : width - j * V::kWidth; };
  Reg memory[kVectors], sum[kVectors];
#pragma GCC unroll 8
  for (int j = 0; j < kVectors; ++j) memory[j] = sum[j] = V::zero();
  for (int64_t d = 0; from != nullptr && d < row.keys; ++d) {
    const Reg key = V::set1(row.key[d]);
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) {
      const float* at = from + d * row.values + column + j * V::kWidth;
      memory[j] = V::fma(key, load_lanes<V>(at, lanes(j)), memory[j]);
      if (j % 2 == 0) fetch_next_head(row, at);
    }
  }
  const Reg decay = V::set1(row.decay);
#pragma GCC unroll 8
  for (int j = 0; j < kVectors; ++j) {
    const Reg value = load_lanes<V>(row.value + column + j * V::kWidth, lanes(j));
    memory[j] = V::mul(V::set1(row.beta), V::fnma(decay, memory[j], value));  // delta
  }
  for (int64_t d = 0; d < row.keys; ++d) {
    const Reg key = V::set1(row.key[d]);
    const Reg query = V::set1(row.query[d]);
#pragma GCC unroll 8
    for (int j = 0; j < kVectors; ++j) {
      const int64_t at = d * row.values + column + j * V::kWidth;
      if (from != nullptr && j % 2 == 1) fetch_next_head(row, from + at);
      const Reg old = from != nullptr ? V::mul(decay, load_lanes<V>(from + at, lanes(j))) : V::zero();
      const Reg s = V::fma(key, memory[j], old);
      if (to != nullptr) store_lanes<V>(to + at, s, lanes(j));
      sum[j] = V::fma(query, s, sum[j]);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < kVectors; ++j) {
    store_lanes<V>(row.out + column + j * V::kWidth, sum[j], lanes(j));
  }
}

// The whole step.
template <typename V>
inline void delta_row(const DeltaRow& row, const float* from, float* to) {
  constexpr int kVectors = V::kRegisters / 4;
  int64_t c = 0;
  for (; c + kVectors * V::kWidth <= row.values; c += kVectors * V::kWidth) {
    delta_row_columns<V, kVectors>(row, from, to, c, kVectors * V::kWidth);
  }
  for (; c + V::kWidth <= row.values; c += V::kWidth) {
    delta_row_columns<V, 1>(row, from, to, c, V::kWidth);
  }
  if (c < row.values) delta_row_columns<V, 1>(row, from, to, c, row.values - c);
}

}  // namespace lockstep
