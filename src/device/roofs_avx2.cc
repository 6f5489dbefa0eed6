#include <immintrin.h>

#include "device/roofs_body.h"

namespace lockstep {
namespace {

struct Avx2 {
  static constexpr int64_t kBytes = 32;
  using Floats = __m256;
  static __m256i zero() { return _mm256_setzero_si256(); }
  static __m256i load(const char* at) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(at)); }
  static __m256i join(__m256i a, __m256i b) { return _mm256_xor_si256(a, b); }
  static __m256 none() { return _mm256_setzero_ps(); }
  static __m256 one() { return _mm256_set1_ps(1); }
  static void hide(__m256& x) { asm volatile("" : "+x"(x)); }
  static __m256 multiply_add(__m256 sum, __m256 x) { return _mm256_fmadd_ps(x, x, sum); }
  static __m256 add(__m256 a, __m256 b) { return _mm256_add_ps(a, b); }
  static void store(float* out, __m256 sum) { _mm256_storeu_ps(out, sum); }
  static void store(float* out, __m256i joined) { store(out, _mm256_castsi256_ps(joined)); }
};

}  // namespace

constinit const RoofKernels kAvx2Roofs{
    .read = roof_read<Avx2>, .multiply = roof_multiply<Avx2, 12>, .flop = 16};

}  // namespace lockstep
