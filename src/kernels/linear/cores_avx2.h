// Cores of AVX2: f32 multiply-adds on two registers per 16 columns, the half types expanded as they are read.
// For *_avx2.cc only.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "tensor/dtype.h"

namespace lockstep {
namespace {

// 16 lanes.
struct TwoRegisters {
  __m256 low, high;
};

struct CoreAvx2 {
  using Sums = TwoRegisters;
  using Weights = TwoRegisters;
  static constexpr bool kPairs = false;
  static constexpr bool kHalvesApart = true;
  static constexpr int kMaxRows = 3;  // 12 of 16 registers
  static Sums zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static __m256 broadcast(const uint32_t* input) {
    return _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(*input)));
  }
  static Sums multiply_add(Sums sums, Weights weights, __m256 input) {
    return {_mm256_fmadd_ps(weights.low, input, sums.low), _mm256_fmadd_ps(weights.high, input, sums.high)};
  }
  static void store(float* out, Sums sums) {
    _mm256_storeu_ps(out, sums.low);
    _mm256_storeu_ps(out + 8, sums.high);
  }
  static __m256i load(const char* line) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line)); }
};

struct CoreAvx2F32 : CoreAvx2 {
  static constexpr int kSteps = 1;
  static Weights weights(const char* line, int) {
    return {_mm256_castsi256_ps(load(line)), _mm256_castsi256_ps(load(line + 32))};
  }
};

// A lane of a line holds two k: the even one below, the odd one above.
struct CoreAvx2BF16 : CoreAvx2 {
  static constexpr int kSteps = 2;
  static __m256 expand(__m256i pairs, int step) {
    return _mm256_castsi256_ps(step == 0 ? _mm256_slli_epi32(pairs, 16)
                                         : _mm256_and_si256(pairs, _mm256_set1_epi32(~0xFFFF)));
  }
  static Weights weights(const char* line, int step) {
    return {expand(load(line), step), expand(load(line + 32), step)};
  }
};

struct CoreAvx2F16 : CoreAvx2 {
  static constexpr int kSteps = 2;
  static __m256 expand(__m256i pairs, int step) {
    const __m256i one =
        step == 0 ? _mm256_and_si256(pairs, _mm256_set1_epi32(0xFFFF)) : _mm256_srli_epi32(pairs, 16);
    // Packing works within 128-bit halves: quarters 0 and 2 hold the eight values.
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(one, one), 0x08);
    return _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
  }
  static Weights weights(const char* line, int step) {
    return {expand(load(line), step), expand(load(line + 32), step)};
  }
};

}  // namespace
}  // namespace lockstep
