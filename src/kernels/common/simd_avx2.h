// Eight f32 lanes of AVX2 with FMA and F16C. The same interface as simd_avx512.h, so that a kernel's body is
// a template over one of the two. Included only by *_avx2.cc; everything here is forced inline, so no code
// built for this instruction set can be linked into another.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "tensor/dtype.h"

namespace lockstep::avx2 {

struct Simd {
  using Reg = __m256;
  using Mask = __m256;
  static constexpr int kWidth = 8;
  // Sums that one loop can keep: 16 registers less those for operands.
  static constexpr int kRegisters = 16;

#define LOCKSTEP_INLINE [[gnu::always_inline]] static inline
  // --- lanes and memory. `n` counts elements in [0, kWidth]: lanes from n on load as zero and store nothing.
  LOCKSTEP_INLINE Reg zero() { return _mm256_setzero_ps(); }
  LOCKSTEP_INLINE Reg set1(float x) { return _mm256_set1_ps(x); }
  LOCKSTEP_INLINE Mask first(int64_t n) { return _mm256_castsi256_ps(first_words(n)); }
  LOCKSTEP_INLINE Reg load(const float* p) { return _mm256_loadu_ps(p); }
  LOCKSTEP_INLINE Reg load(const BFloat16* p) { return widen_bf16(_mm_loadu_si128(words(p))); }
  LOCKSTEP_INLINE Reg load(const Float16* p) { return _mm256_cvtph_ps(_mm_loadu_si128(words(p))); }
  LOCKSTEP_INLINE Reg load_n(const float* p, int64_t n) { return _mm256_maskload_ps(p, first_words(n)); }
  LOCKSTEP_INLINE Reg load_n(const BFloat16* p, int64_t n) { return widen_bf16(load_halves(&p->bits, n)); }
  LOCKSTEP_INLINE Reg load_n(const Float16* p, int64_t n) {
    return _mm256_cvtph_ps(load_halves(&p->bits, n));
  }
  LOCKSTEP_INLINE void store(float* p, Reg x) { _mm256_storeu_ps(p, x); }
  LOCKSTEP_INLINE void store(BFloat16* p, Reg x) { _mm_storeu_si128(words(p), narrow_bf16(x)); }
  LOCKSTEP_INLINE void store(Float16* p, Reg x) { _mm_storeu_si128(words(p), narrow_f16(x)); }
  LOCKSTEP_INLINE void store_n(float* p, Reg x, int64_t n) { _mm256_maskstore_ps(p, first_words(n), x); }
  LOCKSTEP_INLINE void store_n(BFloat16* p, Reg x, int64_t n) { store_halves(&p->bits, narrow_bf16(x), n); }
  LOCKSTEP_INLINE void store_n(Float16* p, Reg x, int64_t n) { store_halves(&p->bits, narrow_f16(x), n); }

  // --- arithmetic
  LOCKSTEP_INLINE Reg add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
  LOCKSTEP_INLINE Reg sub(Reg a, Reg b) { return _mm256_sub_ps(a, b); }
  LOCKSTEP_INLINE Reg mul(Reg a, Reg b) { return _mm256_mul_ps(a, b); }
  LOCKSTEP_INLINE Reg div(Reg a, Reg b) { return _mm256_div_ps(a, b); }
  LOCKSTEP_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }    // a b + c
  LOCKSTEP_INLINE Reg fnma(Reg a, Reg b, Reg c) { return _mm256_fnmadd_ps(a, b, c); }  // c - a b
  // The second operand where either is NaN.
  LOCKSTEP_INLINE Reg max(Reg a, Reg b) { return _mm256_max_ps(a, b); }
  LOCKSTEP_INLINE Reg min(Reg a, Reg b) { return _mm256_min_ps(a, b); }
  LOCKSTEP_INLINE Reg sqrt(Reg x) { return _mm256_sqrt_ps(x); }
  // To the nearest integer, ties to even.
  LOCKSTEP_INLINE Reg round(Reg x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  // x 2^n for integers n in [-252, 254]; overflows to infinity. Two factors, since 2^128 is no f32.
  LOCKSTEP_INLINE Reg scale_by_power(Reg x, Reg n) {
    const __m256i power = _mm256_cvtps_epi32(n);
    const __m256i half = _mm256_srai_epi32(power, 1);
    return mul(mul(x, power_of_two(half)), power_of_two(_mm256_sub_epi32(power, half)));
  }

  // --- selection
  LOCKSTEP_INLINE Mask less(Reg a, Reg b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
  LOCKSTEP_INLINE Mask equal(Reg a, Reg b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
  LOCKSTEP_INLINE Reg select(Mask mask, Reg yes, Reg no) { return _mm256_blendv_ps(no, yes, mask); }

  // --- over the lanes, in one fixed order: halves onto halves
  LOCKSTEP_INLINE float reduce_add(Reg x) {
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
  }
  LOCKSTEP_INLINE float reduce_max(Reg x) {
    const __m128 b = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
  }

  // --- columns of rows of 32-bit words, each an f32 or two neighbours of a half type
  static constexpr int kWords = 8;  // columns at a time
  // The even (first) and odd elements of eight pairs, as f32.
  LOCKSTEP_INLINE Reg even(Reg words, const BFloat16*) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(words), 16));
  }
  LOCKSTEP_INLINE Reg odd(Reg words, const BFloat16*) {
    return _mm256_castsi256_ps(_mm256_and_si256(_mm256_castps_si256(words), _mm256_set1_epi32(-65536)));
  }
  LOCKSTEP_INLINE Reg even(Reg words, const Float16*) {
    const __m256i low = _mm256_and_si256(_mm256_castps_si256(words), _mm256_set1_epi32(0xFFFF));
    return _mm256_cvtph_ps(pack_halves(low));
  }
  LOCKSTEP_INLINE Reg odd(Reg words, const Float16*) {
    return _mm256_cvtph_ps(pack_halves(_mm256_srli_epi32(_mm256_castps_si256(words), 16)));
  }

  // words[j] = word j, counted from element d on, of each of kWidth rows; with n, words from n on are zero
  // and not read.
  template <typename T>
  LOCKSTEP_INLINE void load_columns(const T* const* rows, int64_t d, Reg (&words)[kWords]) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) words[i] = _mm256_loadu_ps(reinterpret_cast<const float*>(rows[i] + d));
    transpose(words);
  }
  template <typename T>
  LOCKSTEP_INLINE void load_columns_n(const T* const* rows, int64_t d, Reg (&words)[kWords], int64_t n) {
    const __m256i mask = first_words(n);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      words[i] = _mm256_maskload_ps(reinterpret_cast<const float*>(rows[i] + d), mask);
    }
    transpose(words);
  }

  // rows[i][j] becomes rows[j][i].
  LOCKSTEP_INLINE void transpose(Reg (&rows)[kWidth]) {
    Reg pairs[kWidth], quads[kWidth];
    for (int i = 0; i < 8; i += 2) {
      pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
      pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
      quads[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
      quads[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xEE);
      quads[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
      quads[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xEE);
    }
    // quads[4 g + j] holds column 4 b + j of rows 4 g.. in its 128-bit block b.
    for (int j = 0; j < 4; ++j) {
      rows[j] = _mm256_permute2f128_ps(quads[j], quads[j + 4], 0x20);
      rows[j + 4] = _mm256_permute2f128_ps(quads[j], quads[j + 4], 0x31);
    }
  }

 private:
  LOCKSTEP_INLINE const __m128i* words(const void* p) { return static_cast<const __m128i*>(p); }
  LOCKSTEP_INLINE __m128i* words(void* p) { return static_cast<__m128i*>(p); }
  // All ones in the first n words.
  LOCKSTEP_INLINE __m256i first_words(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  LOCKSTEP_INLINE __m128i load_halves(const uint16_t* p, int64_t n) {
    alignas(16) uint16_t lanes[8] = {};
    for (int64_t i = 0; i < n; ++i) lanes[i] = p[i];
    return _mm_load_si128(words(lanes));
  }
  LOCKSTEP_INLINE void store_halves(uint16_t* p, __m128i x, int64_t n) {
    alignas(16) uint16_t lanes[8];
    _mm_store_si128(words(lanes), x);
    for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
  }
  LOCKSTEP_INLINE Reg widen_bf16(__m128i x) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
  }
  // The low halves of eight words; their high halves are zero.
  LOCKSTEP_INLINE __m128i pack_halves(__m256i x) {
    return _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  }
  // As BFloat16(float): nearest even, NaN made quiet.
  LOCKSTEP_INLINE __m128i narrow_bf16(Reg x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i high = _mm256_srli_epi32(bits, 16);
    const __m256i bias =
        _mm256_add_epi32(_mm256_and_si256(high, _mm256_set1_epi32(1)), _mm256_set1_epi32(0x7FFF));
    const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, bias), 16);
    const __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return pack_halves(_mm256_blendv_epi8(rounded, quiet, nan));
  }
  // As Float16(float): every NaN becomes the one quiet NaN of its sign.
  LOCKSTEP_INLINE __m128i narrow_f16(Reg x) {
    const __m256i sign = _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(INT32_MIN));
    const Reg quiet = _mm256_castsi256_ps(_mm256_or_si256(sign, _mm256_set1_epi32(0x7FC00000)));
    const Reg clean = _mm256_blendv_ps(x, quiet, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return _mm256_cvtps_ph(clean, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  LOCKSTEP_INLINE Reg power_of_two(__m256i n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
  }
#undef LOCKSTEP_INLINE
};

}  // namespace lockstep::avx2
