// What sampling needs beyond sixteen f32 lanes: integer words in the same lanes, and exact sums. The same
// interface as sample_lanes_avx2.h; included only by *_avx512.cc, and forced inline like the lanes
// themselves.
#pragma once

#include "kernels/common/simd_avx512.h"
#include "kernels/sample/sample_math.h"

namespace lockstep::avx512 {

struct SampleLanes : Simd {
  using Words = __m512i;
  using Mass = __m512i;  // partial sums of mass_of, each with the bits of kMassRound per element added

#define LOCKSTEP_INLINE [[gnu::always_inline]] static inline
  LOCKSTEP_INLINE Words set1_words(uint32_t x) { return _mm512_set1_epi32(static_cast<int>(x)); }
  LOCKSTEP_INLINE Words lane_numbers() {
    return _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  }
  LOCKSTEP_INLINE Words load_words(const int32_t* p) { return _mm512_loadu_si512(p); }
  LOCKSTEP_INLINE Words load_words_n(const int32_t* p, int64_t n) {
    return _mm512_maskz_loadu_epi32(first(n), p);
  }
  LOCKSTEP_INLINE void store_words(int32_t* p, Words x) { _mm512_storeu_si512(p, x); }
  LOCKSTEP_INLINE Words add_words(Words a, Words b) { return _mm512_add_epi32(a, b); }
  LOCKSTEP_INLINE Words sub_words(Words a, Words b) { return _mm512_sub_epi32(a, b); }
  LOCKSTEP_INLINE Words xor_words(Words a, Words b) { return _mm512_xor_si512(a, b); }
  template <int kBits>
  LOCKSTEP_INLINE Words shift_left(Words x) {
    return _mm512_slli_epi32(x, kBits);
  }
  template <int kBits>
  LOCKSTEP_INLINE Words shift_right(Words x) {
    return _mm512_srli_epi32(x, kBits);
  }
  template <int kBits>
  LOCKSTEP_INLINE Words shift_right_signed(Words x) {
    return _mm512_srai_epi32(x, kBits);
  }
  // The high and the low halves of the 64-bit products.
  LOCKSTEP_INLINE void multiply_words(Words x, Words by, Words& high, Words& low) {
    const Words even = _mm512_mul_epu32(x, by);
    const Words odd = _mm512_mul_epu32(_mm512_srli_epi64(x, 32), by);
    high = _mm512_mask_mov_epi32(_mm512_srli_epi64(even, 32), 0xAAAA, odd);
    low = _mm512_mask_mov_epi32(even, 0xAAAA, _mm512_slli_epi64(odd, 32));
  }
  LOCKSTEP_INLINE Words bits_of(Reg x) { return _mm512_castps_si512(x); }
  LOCKSTEP_INLINE Reg floats_of(Words x) { return _mm512_castsi512_ps(x); }
  LOCKSTEP_INLINE Reg to_float(Words x) { return _mm512_cvtepi32_ps(x); }  // signed

  LOCKSTEP_INLINE Mask less_words(Words a, Words b) { return _mm512_cmplt_epi32_mask(a, b); }  // signed
  LOCKSTEP_INLINE Mask both(Mask a, Mask b) { return a & b; }
  LOCKSTEP_INLINE Mask either(Mask a, Mask b) { return a | b; }
  LOCKSTEP_INLINE uint32_t mask_bits(Mask mask) { return mask; }
  LOCKSTEP_INLINE Words select_words(Mask mask, Words yes, Words no) {
    return _mm512_mask_mov_epi32(no, mask, yes);
  }
  LOCKSTEP_INLINE Reg absolute(Reg x) { return _mm512_abs_ps(x); }

  LOCKSTEP_INLINE Mass no_mass() { return _mm512_setzero_si512(); }
  LOCKSTEP_INLINE Mass add_mass(Mass sum, Reg e) {
    const __m512d round = _mm512_set1_pd(sampling::kMassRound);
    const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(e));
    const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(e, 1));
    return _mm512_add_epi64(_mm512_add_epi64(sum, _mm512_castpd_si512(_mm512_add_pd(low, round))),
                            _mm512_castpd_si512(_mm512_add_pd(high, round)));
  }
  // Of a sum of `count` elements, zeros that filled up the last lanes included.
  LOCKSTEP_INLINE uint64_t total_mass(Mass sum, int64_t count) {
    return static_cast<uint64_t>(_mm512_reduce_add_epi64(sum)) -
           static_cast<uint64_t>(count) * std::bit_cast<uint64_t>(sampling::kMassRound);
  }
#undef LOCKSTEP_INLINE
};

}  // namespace lockstep::avx512
