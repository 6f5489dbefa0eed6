// Cores of AVX-512: f32 multiply-adds, the half types expanded as they are read.
// For *_avx512.cc and *_avx512bf16.cc only.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "tensor/dtype.h"

namespace lockstep {
namespace {

struct CoreAvx512 {
  using Sums = __m512;
  using Weights = __m512;
  static constexpr bool kPairs = false;
  static constexpr bool kHalvesApart = false;
  static constexpr int kMaxRows = 12;  // 24 of 32 registers
  static Sums zero() { return _mm512_setzero_ps(); }
  static __m512 broadcast(const uint32_t* input) {
    return _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(*input)));
  }
  static Sums multiply_add(Sums sums, Weights weights, __m512 input) {
    return _mm512_fmadd_ps(weights, input, sums);
  }
  static void store(float* out, Sums sums) { _mm512_storeu_ps(out, sums); }
};

struct CoreAvx512F32 : CoreAvx512 {
  static constexpr int kSteps = 1;
  static Weights weights(const char* line, int) { return _mm512_loadu_ps(line); }
};

// A lane of a line holds two k: the even one below, the odd one above.
struct CoreAvx512BF16 : CoreAvx512 {
  static constexpr int kSteps = 2;
  static Weights weights(const char* line, int step) {
    const __m512i pairs = _mm512_loadu_si512(line);
    return _mm512_castsi512_ps(step == 0 ? _mm512_slli_epi32(pairs, 16)
                                         : _mm512_and_si512(pairs, _mm512_set1_epi32(~0xFFFF)));
  }
};

struct CoreAvx512F16 : CoreAvx512 {
  static constexpr int kSteps = 2;
  static Weights weights(const char* line, int step) {
    const __m512i pairs = _mm512_loadu_si512(line);
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(step == 0 ? pairs : _mm512_srli_epi32(pairs, 16)));
  }
};

}  // namespace
}  // namespace lockstep
