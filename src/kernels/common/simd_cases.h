// What holds for every vector type, as templates: simd_avx2_test.cc and simd_avx512_test.cc run them, each
// compiled for its instruction set. Nothing of the standard library is instantiated here, because the linker
// might keep that copy for everyone. Test support.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/common/simd_math.h"
#include "kernels/common/simd_rows.h"
#include "tensor/dtype.h"

namespace lockstep::testing {

// Every kStep-th pattern of bits: NaN, infinities, subnormals and all magnitudes among them.
inline constexpr uint64_t kStep = 4099;

inline float float_of(uint64_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits)); }

struct WorstError {
  double units = 0;  // of the last place of the true result
  float at = 0;
  int wrong = 0;  // NaN lost, or limits missed
};

// Compares op(x) with truth(x) over all floats, kStep apart. Results whose truth is subnormal may be zero.
template <typename V, typename Op, typename Truth>
WorstError compare(Op&& op, Truth&& truth) {
  WorstError worst;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += V::kWidth * kStep) {
    float x[V::kWidth], y[V::kWidth];
    for (uint64_t i = 0; i < V::kWidth; ++i) x[i] = float_of(bits + i * kStep);
    V::store(y, op(V::load(x)));
    for (int i = 0; i < V::kWidth; ++i) {
      const double expected = truth(static_cast<double>(x[i]));
      const auto nearest = static_cast<float>(expected);
      if (std::isnan(nearest) || std::isinf(nearest)) {
        const bool same = std::isnan(nearest) ? std::isnan(y[i]) : y[i] == nearest;
        worst.wrong += same ? 0 : 1;
      } else if (std::abs(nearest) < std::numeric_limits<float>::min()) {
        worst.wrong += std::abs(y[i]) <= std::numeric_limits<float>::min() ? 0 : 1;
      } else {
        const double unit =
            std::abs(static_cast<double>(std::nextafter(nearest, 2 * nearest)) - double{nearest});
        const double error = std::abs(static_cast<double>(y[i]) - expected) / unit;
        if (!(error <= worst.units)) worst = {error, x[i], worst.wrong};
      }
    }
  }
  return worst;
}

// Halves that V writes differently from the scalar conversion, over all floats kStep apart; and values that
// it reads differently, over all halves.
template <typename V, typename Half>
int half_mismatches() {
  int mismatches = 0;
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += V::kWidth * kStep) {
    float x[V::kWidth];
    Half written[V::kWidth];
    for (uint64_t i = 0; i < V::kWidth; ++i) x[i] = float_of(bits + i * kStep);
    V::store(written, V::load(x));
    for (int i = 0; i < V::kWidth; ++i) mismatches += written[i].bits == Half(x[i]).bits ? 0 : 1;
  }
  for (uint32_t bits = 0; bits < 65536; bits += V::kWidth) {
    Half from[V::kWidth];
    float read[V::kWidth];
    for (uint32_t i = 0; i < V::kWidth; ++i) from[i].bits = static_cast<uint16_t>(bits + i);
    V::store(read, V::load(from));
    for (int i = 0; i < V::kWidth; ++i) {
      const auto expected = static_cast<float>(from[i]);
      mismatches += std::isnan(expected) ? !std::isnan(read[i]) : std::memcmp(&read[i], &expected, 4) != 0;
    }
  }
  return mismatches;
}

// Whether loads of n elements give zeros past n, and stores of n leave the rest alone.
template <typename V, typename T>
bool partial_access_is_exact() {
  for (int n = 0; n <= V::kWidth; ++n) {
    T from[V::kWidth], to[V::kWidth];
    float lanes[V::kWidth];
    const T untouched(-7.0f);
    for (int i = 0; i < V::kWidth; ++i) {
      from[i] = T(static_cast<float>(i + 1));
      to[i] = untouched;
    }
    V::store(lanes, V::load_n(from, n));
    V::store_n(to, V::load(from), n);
    for (int i = 0; i < V::kWidth; ++i) {
      if (lanes[i] != (i < n ? static_cast<float>(i + 1) : 0.0f)) return false;
      if (std::memcmp(&to[i], i < n ? &from[i] : &untouched, sizeof(T)) != 0) return false;
    }
  }
  return true;
}

// Whether columns of rows of T come out as f32, for n words of each row.
template <typename V, typename T>
bool columns_are_right(int n) {
  constexpr int kPerWord = 4 / static_cast<int>(sizeof(T));
  T values[V::kWidth * 100];
  const T* rows[V::kWidth];
  for (int i = 0; i < V::kWidth; ++i) rows[i] = values + i * 100;
  for (int i = 0; i < V::kWidth * 100; ++i) values[i] = T(static_cast<float>(i % 251));
  typename V::Reg words[V::kWords];
  constexpr int kFrom = 4;
  n == V::kWords ? V::load_columns(rows, kFrom, words) : V::load_columns_n(rows, kFrom, words, n);
  for (int word = 0; word < n; ++word) {
    for (int part = 0; part < kPerWord; ++part) {
      float lanes[V::kWidth];
      if constexpr (kPerWord == 1) {
        V::store(lanes, words[word]);
      } else {
        V::store(lanes, part == 0 ? V::even(words[word], values) : V::odd(words[word], values));
      }
      for (int i = 0; i < V::kWidth; ++i) {
        if (lanes[i] != static_cast<float>(rows[i][kFrom + word * kPerWord + part])) return false;
      }
    }
  }
  return true;
}

template <typename V>
bool transpose_is_right() {
  typename V::Reg rows[V::kWidth];
  for (int i = 0; i < V::kWidth; ++i) {
    float lanes[V::kWidth];
    for (int j = 0; j < V::kWidth; ++j) lanes[j] = static_cast<float>(i * 100 + j);
    rows[i] = V::load(lanes);
  }
  V::transpose(rows);
  for (int j = 0; j < V::kWidth; ++j) {
    float lanes[V::kWidth];
    V::store(lanes, rows[j]);
    for (int i = 0; i < V::kWidth; ++i) {
      if (lanes[i] != static_cast<float>(i * 100 + j)) return false;
    }
  }
  return true;
}

// Whether reductions fold halves onto halves: the order is part of the interface, since sums depend on it.
template <typename V>
bool reductions_fold_halves() {
  float lanes[V::kWidth], folded[V::kWidth];
  for (int i = 0; i < V::kWidth; ++i) lanes[i] = folded[i] = 1.0f / static_cast<float>(3 * i + 7);
  for (int half = V::kWidth / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) folded[i] += folded[i + half];
  }
  return V::reduce_add(V::load(lanes)) == folded[0] && V::reduce_max(V::load(lanes)) == 1.0f / 7.0f;
}

}  // namespace lockstep::testing
