#include <immintrin.h>

#include "device/roofs_body.h"

namespace lockstep {
namespace {

struct Avx512 {
  static constexpr int64_t kBytes = 64;
  using Floats = __m512;
  static __m512i zero() { return _mm512_setzero_si512(); }
  static __m512i load(const char* at) { return _mm512_load_si512(at); }
  static __m512i join(__m512i a, __m512i b) { return _mm512_xor_si512(a, b); }
  static __m512 none() { return _mm512_setzero_ps(); }
  static __m512 one() { return _mm512_set1_ps(1); }
  static void hide(__m512& x) { asm volatile("" : "+v"(x)); }
  static __m512 multiply_add(__m512 sum, __m512 x) { return _mm512_fmadd_ps(x, x, sum); }
  static __m512 add(__m512 a, __m512 b) { return _mm512_add_ps(a, b); }
  static void store(float* out, __m512 sum) { _mm512_storeu_ps(out, sum); }
  static void store(float* out, __m512i joined) { store(out, _mm512_castsi512_ps(joined)); }
};

}  // namespace

constinit const RoofKernels kAvx512Roofs{
    .read = roof_read<Avx512>, .multiply = roof_multiply<Avx512, 24>, .flop = 32};

}  // namespace lockstep
