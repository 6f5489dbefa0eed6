#include <immintrin.h>

#include "device/roofs_body.h"

namespace lockstep {
namespace {

// 16 sums of two products each.
struct Dot {
  using Floats = __m512;
  static __m512 none() { return _mm512_setzero_ps(); }
  static __m512bh one() { return (__m512bh)_mm512_set1_epi32(0x3F803F80); }
  static void hide(__m512bh& x) { asm volatile("" : "+v"(x)); }
  static __m512 multiply_add(__m512 sum, __m512bh x) { return _mm512_dpbf16_ps(sum, x, x); }
  static __m512 add(__m512 a, __m512 b) { return _mm512_add_ps(a, b); }
  static void store(float* out, __m512 sum) { _mm512_storeu_ps(out, sum); }
};

}  // namespace

constinit const Kernel<RoofArgs> kBf16RoofKernel = roof_multiply<Dot, 24>;

}  // namespace lockstep
