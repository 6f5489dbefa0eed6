// Sixteen f32 lanes of AVX-512 (F, BW, DQ, VL). The same interface as simd_avx2.h, so that a kernel's body is
// a template over one of the two. Included only by *_avx512.cc; everything here is forced inline, so no code
// built for this instruction set can be linked into another.
//
// A *_avx512bf16.cc must not instantiate a body with this very type, because the linker keeps one copy of
// each instance: it derives a type of its own, `struct Simd : avx512::Simd {}`, in its own namespace.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "tensor/dtype.h"

namespace lockstep::avx512 {

struct Simd {
  using Reg = __m512;
  using Mask = __mmask16;
  static constexpr int kWidth = 16;
  // Sums that one loop can keep: 32 registers less those for operands.
  static constexpr int kRegisters = 32;

#define LOCKSTEP_INLINE [[gnu::always_inline]] static inline
  // --- lanes and memory. `n` counts elements in [0, kWidth]: lanes from n on load as zero and store nothing.
  LOCKSTEP_INLINE Reg zero() { return _mm512_setzero_ps(); }
  LOCKSTEP_INLINE Reg set1(float x) { return _mm512_set1_ps(x); }
  LOCKSTEP_INLINE Mask first(int64_t n) { return static_cast<Mask>((uint32_t{1} << n) - 1); }
  LOCKSTEP_INLINE Reg load(const float* p) { return _mm512_loadu_ps(p); }
  LOCKSTEP_INLINE Reg load(const BFloat16* p) { return widen_bf16(_mm256_loadu_si256(words(p))); }
  LOCKSTEP_INLINE Reg load(const Float16* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(words(p))); }
  LOCKSTEP_INLINE Reg load_n(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
  LOCKSTEP_INLINE Reg load_n(const BFloat16* p, int64_t n) {
    return widen_bf16(_mm256_maskz_loadu_epi16(first(n), p));
  }
  LOCKSTEP_INLINE Reg load_n(const Float16* p, int64_t n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n), p));
  }
  LOCKSTEP_INLINE void store(float* p, Reg x) { _mm512_storeu_ps(p, x); }
  LOCKSTEP_INLINE void store(BFloat16* p, Reg x) { _mm256_storeu_si256(words(p), narrow_bf16(x)); }
  LOCKSTEP_INLINE void store(Float16* p, Reg x) { _mm256_storeu_si256(words(p), narrow_f16(x)); }
  LOCKSTEP_INLINE void store_n(float* p, Reg x, int64_t n) { _mm512_mask_storeu_ps(p, first(n), x); }
  LOCKSTEP_INLINE void store_n(BFloat16* p, Reg x, int64_t n) {
    _mm256_mask_storeu_epi16(p, first(n), narrow_bf16(x));
  }
  LOCKSTEP_INLINE void store_n(Float16* p, Reg x, int64_t n) {
    _mm256_mask_storeu_epi16(p, first(n), narrow_f16(x));
  }

  // --- arithmetic
  LOCKSTEP_INLINE Reg add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
  LOCKSTEP_INLINE Reg sub(Reg a, Reg b) { return _mm512_sub_ps(a, b); }
  LOCKSTEP_INLINE Reg mul(Reg a, Reg b) { return _mm512_mul_ps(a, b); }
  LOCKSTEP_INLINE Reg div(Reg a, Reg b) { return _mm512_div_ps(a, b); }
  LOCKSTEP_INLINE Reg fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }    // a b + c
  LOCKSTEP_INLINE Reg fnma(Reg a, Reg b, Reg c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a b
  // The second operand where either is NaN.
  LOCKSTEP_INLINE Reg max(Reg a, Reg b) { return _mm512_max_ps(a, b); }
  LOCKSTEP_INLINE Reg min(Reg a, Reg b) { return _mm512_min_ps(a, b); }
  LOCKSTEP_INLINE Reg sqrt(Reg x) { return _mm512_sqrt_ps(x); }
  // To the nearest integer, ties to even.
  LOCKSTEP_INLINE Reg round(Reg x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  // x 2^n for integers n; overflows to infinity.
  LOCKSTEP_INLINE Reg scale_by_power(Reg x, Reg n) { return _mm512_scalef_ps(x, n); }

  // --- selection
  LOCKSTEP_INLINE Mask less(Reg a, Reg b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
  LOCKSTEP_INLINE Mask equal(Reg a, Reg b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
  LOCKSTEP_INLINE Reg select(Mask mask, Reg yes, Reg no) { return _mm512_mask_blend_ps(mask, no, yes); }

  // --- over the lanes, in one fixed order: halves onto halves
  LOCKSTEP_INLINE float reduce_add(Reg x) {
    const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
  }
  LOCKSTEP_INLINE float reduce_max(Reg x) {
    const __m256 a = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    const __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
  }

  // --- columns of rows of 32-bit words, each an f32 or two neighbours of a half type
  static constexpr int kWords = 8;  // columns at a time
  // The even (first) and odd elements of sixteen pairs, as f32.
  LOCKSTEP_INLINE Reg even(Reg words, const BFloat16*) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(words), 16));
  }
  LOCKSTEP_INLINE Reg odd(Reg words, const BFloat16*) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(words), _mm512_set1_epi32(-65536)));
  }
  LOCKSTEP_INLINE Reg even(Reg words, const Float16*) {
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_castps_si512(words)));
  }
  LOCKSTEP_INLINE Reg odd(Reg words, const Float16*) {
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(words), 16)));
  }

  // words[j] = word j, counted from element d on, of each of kWidth rows; with n, words from n on are zero
  // and not read.
  template <typename T>
  LOCKSTEP_INLINE void load_columns(const T* const* rows, int64_t d, Reg (&words)[kWords]) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      const float* low = reinterpret_cast<const float*>(rows[column_row(i)] + d);
      const float* high = reinterpret_cast<const float*>(rows[column_row(i) + 4] + d);
      words[i] = _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(low)), _mm256_loadu_ps(high), 1);
    }
    turn_columns(words);
  }
  template <typename T>
  LOCKSTEP_INLINE void load_columns_n(const T* const* rows, int64_t d, Reg (&words)[kWords], int64_t n) {
    const auto mask = static_cast<__mmask8>(first(n));
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      const __m256 low = _mm256_maskz_loadu_ps(mask, rows[column_row(i)] + d);
      const __m256 high = _mm256_maskz_loadu_ps(mask, rows[column_row(i) + 4] + d);
      words[i] = _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
    }
    turn_columns(words);
  }

  // rows[i][j] becomes rows[j][i].
  LOCKSTEP_INLINE void transpose(Reg (&rows)[kWidth]) {
    Reg pairs[kWidth], quads[kWidth];
    for (int i = 0; i < 16; i += 2) {
      pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
      pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
      quads[i] = unpack_low(pairs[i], pairs[i + 2]);
      quads[i + 1] = unpack_high(pairs[i], pairs[i + 2]);
      quads[i + 2] = unpack_low(pairs[i + 1], pairs[i + 3]);
      quads[i + 3] = unpack_high(pairs[i + 1], pairs[i + 3]);
    }
    // quads[4 g + j] holds column 4 b + j of rows 4 g.. in its 128-bit block b.
    for (int j = 0; j < 4; ++j) {
      const Reg even_low = _mm512_shuffle_f32x4(quads[j], quads[j + 4], 0x88);
      const Reg odd_low = _mm512_shuffle_f32x4(quads[j], quads[j + 4], 0xDD);
      const Reg even_high = _mm512_shuffle_f32x4(quads[j + 8], quads[j + 12], 0x88);
      const Reg odd_high = _mm512_shuffle_f32x4(quads[j + 8], quads[j + 12], 0xDD);
      rows[j] = _mm512_shuffle_f32x4(even_low, even_high, 0x88);
      rows[j + 4] = _mm512_shuffle_f32x4(odd_low, odd_high, 0x88);
      rows[j + 8] = _mm512_shuffle_f32x4(even_low, even_high, 0xDD);
      rows[j + 12] = _mm512_shuffle_f32x4(odd_low, odd_high, 0xDD);
    }
  }

 private:
  // Register i of load_columns holds rows column_row(i) and column_row(i) + 4: the order that the last stage
  // of turn_columns puts right.
  LOCKSTEP_INLINE int column_row(int i) { return i < 4 ? i : i + 4; }
  LOCKSTEP_INLINE void turn_columns(Reg (&words)[kWords]) {
    Reg pairs[8], quads[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
      pairs[i] = _mm512_unpacklo_ps(words[i], words[i + 1]);
      pairs[i + 1] = _mm512_unpackhi_ps(words[i], words[i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
      quads[i] = unpack_low(pairs[i], pairs[i + 2]);
      quads[i + 1] = unpack_high(pairs[i], pairs[i + 2]);
      quads[i + 2] = unpack_low(pairs[i + 1], pairs[i + 3]);
      quads[i + 3] = unpack_high(pairs[i + 1], pairs[i + 3]);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      words[j] = _mm512_shuffle_f32x4(quads[j], quads[j + 4], 0x88);
      words[j + 4] = _mm512_shuffle_f32x4(quads[j], quads[j + 4], 0xDD);
    }
  }
  LOCKSTEP_INLINE const __m256i* words(const void* p) { return static_cast<const __m256i*>(p); }
  LOCKSTEP_INLINE __m256i* words(void* p) { return static_cast<__m256i*>(p); }
  LOCKSTEP_INLINE Reg widen_bf16(__m256i x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
  }
  // As BFloat16(float): nearest even, NaN made quiet.
  LOCKSTEP_INLINE __m256i narrow_bf16(Reg x) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i high = _mm512_srli_epi32(bits, 16);
    const __m512i bias =
        _mm512_add_epi32(_mm512_and_si512(high, _mm512_set1_epi32(1)), _mm512_set1_epi32(0x7FFF));
    const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, bias), 16);
    const __m512i quiet = _mm512_or_si512(high, _mm512_set1_epi32(0x40));
    return _mm512_cvtepi32_epi16(
        _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), quiet));
  }
  // As Float16(float): every NaN becomes the one quiet NaN of its sign.
  LOCKSTEP_INLINE __m256i narrow_f16(Reg x) {
    const __m512i sign = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(INT32_MIN));
    const Reg quiet = _mm512_castsi512_ps(_mm512_or_si512(sign, _mm512_set1_epi32(0x7FC00000)));
    const Reg clean = _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), x, quiet);
    return _mm512_cvtps_ph(clean, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  LOCKSTEP_INLINE Reg unpack_low(Reg a, Reg b) {
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  }
  LOCKSTEP_INLINE Reg unpack_high(Reg a, Reg b) {
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  }
#undef LOCKSTEP_INLINE
};

}  // namespace lockstep::avx512
