// Plain C++: what the compiler makes of it for any x86-64.
#include <cstring>

#include "device/roofs_body.h"

namespace lockstep {
namespace {

struct Scalar {
  static constexpr int64_t kBytes = 8;
  using Floats = float;
  static uint64_t zero() { return 0; }
  static uint64_t load(const char* at) {
    uint64_t word = 0;
    std::memcpy(&word, at, sizeof(word));
    return word;
  }
  static uint64_t join(uint64_t a, uint64_t b) { return a ^ b; }
  static float none() { return 0; }
  static float one() { return 1; }
  static void hide(float& x) { asm volatile("" : "+x"(x)); }
  static float multiply_add(float sum, float x) { return sum + x * x; }
  static float add(float a, float b) { return a + b; }
  static void store(float* out, float sum) { *out = sum; }
  static void store(float* out, uint64_t joined) { std::memcpy(out, &joined, sizeof(joined)); }
};

}  // namespace

constinit const RoofKernels kReferenceRoofs{
    .read = roof_read<Scalar>, .multiply = roof_multiply<Scalar, 12>, .flop = 2};

}  // namespace lockstep
