// The core of AVX512-BF16: pairs of bf16, multiplied and added into f32. For *_avx512bf16.cc only.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace lockstep {
namespace {

struct CoreDotBF16 {
  using Sums = __m512;
  using Weights = __m512bh;
  static constexpr bool kPairs = true;
  static constexpr int kSteps = 1;
  static constexpr bool kHalvesApart = false;
  static constexpr int kMaxRows = 12;  // 24 of 32 registers
  static Sums zero() { return _mm512_setzero_ps(); }
  static Weights weights(const char* line, int) { return (__m512bh)_mm512_loadu_si512(line); }
  static __m512bh broadcast(const uint32_t* input) {
    return (__m512bh)_mm512_set1_epi32(static_cast<int>(*input));
  }
  static Sums multiply_add(Sums sums, Weights weights, __m512bh input) {
    return _mm512_dpbf16_ps(sums, weights, input);
  }
  static void store(float* out, Sums sums) { _mm512_storeu_ps(out, sums); }
};

}  // namespace
}  // namespace lockstep
