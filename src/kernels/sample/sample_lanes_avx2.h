// What sampling needs beyond eight f32 lanes: integer words in the same lanes, and exact sums. The same
// interface as sample_lanes_avx512.h; included only by *_avx2.cc, and forced inline like the lanes
// themselves.
#pragma once

#include "kernels/common/simd_avx2.h"
#include "kernels/sample/sample_math.h"

namespace lockstep::avx2 {

struct SampleLanes : Simd {
  using Words = __m256i;
  using Mass = __m256i;  // partial sums of mass_of, each with the bits of kMassRound per element added

#define LOCKSTEP_INLINE [[gnu::always_inline]] static inline
  LOCKSTEP_INLINE Words set1_words(uint32_t x) { return _mm256_set1_epi32(static_cast<int>(x)); }
  LOCKSTEP_INLINE Words lane_numbers() { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
  LOCKSTEP_INLINE Words load_words(const int32_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  LOCKSTEP_INLINE Words load_words_n(const int32_t* p, int64_t n) {
    return _mm256_maskload_epi32(p, _mm256_castps_si256(first(n)));
  }
  LOCKSTEP_INLINE void store_words(int32_t* p, Words x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x);
  }
  LOCKSTEP_INLINE Words add_words(Words a, Words b) { return _mm256_add_epi32(a, b); }
  LOCKSTEP_INLINE Words sub_words(Words a, Words b) { return _mm256_sub_epi32(a, b); }
  LOCKSTEP_INLINE Words xor_words(Words a, Words b) { return _mm256_xor_si256(a, b); }
  template <int kBits>
  LOCKSTEP_INLINE Words shift_left(Words x) {
    return _mm256_slli_epi32(x, kBits);
  }
  template <int kBits>
  LOCKSTEP_INLINE Words shift_right(Words x) {
    return _mm256_srli_epi32(x, kBits);
  }
  template <int kBits>
  LOCKSTEP_INLINE Words shift_right_signed(Words x) {
    return _mm256_srai_epi32(x, kBits);
  }
  // The high and the low halves of the 64-bit products.
  LOCKSTEP_INLINE void multiply_words(Words x, Words by, Words& high, Words& low) {
    const Words even = _mm256_mul_epu32(x, by);
    const Words odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), by);
    high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
    low = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
  }
  LOCKSTEP_INLINE Words bits_of(Reg x) { return _mm256_castps_si256(x); }
  LOCKSTEP_INLINE Reg floats_of(Words x) { return _mm256_castsi256_ps(x); }
  LOCKSTEP_INLINE Reg to_float(Words x) { return _mm256_cvtepi32_ps(x); }  // signed

  LOCKSTEP_INLINE Mask less_words(Words a, Words b) {  // signed
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(b, a));
  }
  LOCKSTEP_INLINE Mask both(Mask a, Mask b) { return _mm256_and_ps(a, b); }
  LOCKSTEP_INLINE Mask either(Mask a, Mask b) { return _mm256_or_ps(a, b); }
  LOCKSTEP_INLINE uint32_t mask_bits(Mask mask) { return static_cast<uint32_t>(_mm256_movemask_ps(mask)); }
  LOCKSTEP_INLINE Words select_words(Mask mask, Words yes, Words no) {
    return _mm256_castps_si256(_mm256_blendv_ps(floats_of(no), floats_of(yes), mask));
  }
  LOCKSTEP_INLINE Reg absolute(Reg x) {
    return _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF)));
  }

  LOCKSTEP_INLINE Mass no_mass() { return _mm256_setzero_si256(); }
  LOCKSTEP_INLINE Mass add_mass(Mass sum, Reg e) {
    const __m256d round = _mm256_set1_pd(sampling::kMassRound);
    const __m256d low = _mm256_cvtps_pd(_mm256_castps256_ps128(e));
    const __m256d high = _mm256_cvtps_pd(_mm256_extractf128_ps(e, 1));
    return _mm256_add_epi64(_mm256_add_epi64(sum, _mm256_castpd_si256(_mm256_add_pd(low, round))),
                            _mm256_castpd_si256(_mm256_add_pd(high, round)));
  }
  // Of a sum of `count` elements, zeros that filled up the last lanes included.
  LOCKSTEP_INLINE uint64_t total_mass(Mass sum, int64_t count) {
    alignas(32) uint64_t lanes[4];
    _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), sum);
    return lanes[0] + lanes[1] + lanes[2] + lanes[3] -
           static_cast<uint64_t>(count) * std::bit_cast<uint64_t>(sampling::kMassRound);
  }
#undef LOCKSTEP_INLINE
};

}  // namespace lockstep::avx2
