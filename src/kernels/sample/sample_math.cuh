// The arithmetic of sample_math.h, operation by operation, for CUDA. Every rounding is asked for by name.
#pragma once

#include <cstdint>

#include "kernels/sample/sample_math.h"

namespace lockstep::cuda {

namespace s = ::lockstep::sampling;

__device__ inline float exp_negative(float x) {
  constexpr float kSeries[6] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                                4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
  const float shifted = __fmaf_rn(x, s::kLog2E, s::kRound);
  const float n = __fsub_rn(shifted, s::kRound);
  const float high = __fmaf_rn(n, -s::kLn2High, x);
  const float r = __fmaf_rn(n, -s::kLn2Low, high);
  float p = kSeries[0];
  for (int i = 1; i < 6; ++i) p = __fmaf_rn(p, r, kSeries[i]);
  const float y = __fadd_rn(__fmaf_rn(p, __fmul_rn(r, r), r), 1.0f);
  const uint32_t power = __float_as_uint(shifted) << 23;
  return x > s::kExpFloor ? __uint_as_float(__float_as_uint(y) + power) : 0.0f;
}

__device__ inline float log_positive(float x) {
  constexpr float kSeries[9] = {7.0376836292e-2f,  -1.1514610310e-1f, 1.1676998740e-1f,
                                -1.2420140846e-1f, 1.4249322787e-1f,  -1.6668057665e-1f,
                                2.0000714765e-1f,  -2.4999993993e-1f, 3.3333331174e-1f};
  const int32_t bits = __float_as_int(x);
  const int32_t exponent = (bits - s::kSqrtHalfBits) >> 23;
  const uint32_t mantissa = static_cast<uint32_t>(bits) - (static_cast<uint32_t>(exponent) << 23);
  const float e = static_cast<float>(exponent);
  const float f = __fsub_rn(__uint_as_float(mantissa), 1.0f);
  const float squared = __fmul_rn(f, f);
  float p = kSeries[0];
  for (int i = 1; i < 9; ++i) p = __fmaf_rn(p, f, kSeries[i]);
  float y = __fmaf_rn(e, s::kLogLow, __fmul_rn(p, __fmul_rn(squared, f)));
  y = __fmaf_rn(squared, -0.5f, y);
  return __fmaf_rn(e, s::kLogHigh, __fadd_rn(f, y));
}

__device__ inline uint64_t mass_of(float e) {
  const double moved = __dadd_rn(static_cast<double>(e), s::kMassRound);
  return static_cast<uint64_t>(__double_as_longlong(moved) - __double_as_longlong(s::kMassRound));
}

__device__ inline uint32_t random_bits(uint64_t seed, int32_t position, uint32_t token) {
  uint32_t word[4] = {token / 64 * 16 + token % 16, static_cast<uint32_t>(position), 0, 0};
  uint32_t key[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  for (int round = 0; round < s::kPhiloxRounds; ++round) {
    const uint64_t even = uint64_t{0xD2511F53u} * word[0];
    const uint64_t odd = uint64_t{0xCD9E8D57u} * word[2];
    word[0] = static_cast<uint32_t>(odd >> 32) ^ word[1] ^ key[0];
    word[2] = static_cast<uint32_t>(even >> 32) ^ word[3] ^ key[1];
    word[1] = static_cast<uint32_t>(odd);
    word[3] = static_cast<uint32_t>(even);
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  const uint32_t which = token / 16 % 4;
  return which == 0 ? word[0] : which == 1 ? word[1] : which == 2 ? word[2] : word[3];
}

__device__ inline float gumbel(uint32_t bits) {
  const float raw =
      __fmaf_rn(static_cast<float>(static_cast<int32_t>(bits >> 1)), s::kUniformUnit, s::kUniformHalf);
  const float v = raw < s::kUniformMax ? raw : s::kUniformMax;
  const float w = __fsub_rn(1.0f, v);
  const float lost = __fsub_rn(1.0f, w);
  const float exponential = lost > 0.0f ? __fmul_rn(-log_positive(w), __fdiv_rn(v, lost)) : v;
  return -log_positive(exponential);
}

__device__ inline float penalised_logit(float logit, int32_t count, const s::Penalties& by) {
  const int32_t generated = count >> 1;
  const float repeated = logit > 0.0f ? __fdiv_rn(logit, by.repetition) : __fmul_rn(logit, by.repetition);
  const float seen = count > 0 ? repeated : logit;
  const float often = __fmaf_rn(static_cast<float>(generated), -by.frequency, seen);
  return __fsub_rn(often, generated > 0 ? by.presence : 0.0f);
}

__device__ inline float finite(float x) {
  const float above = x > -s::kLargest ? x : -s::kLargest;
  return above < s::kLargest ? above : s::kLargest;
}

__device__ inline uint32_t order_of(float x) {
  const uint32_t bits = __float_as_uint(x);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// Larger for the larger value, ties to the lower id.
__device__ inline uint64_t sort_key(float value, int64_t token) {
  return uint64_t{order_of(__fadd_rn(value, 0.0f))} << 32 | (0xFFFFFFFFu - static_cast<uint32_t>(token));
}
__device__ inline int64_t token_of(uint64_t key) {
  return static_cast<int64_t>(0xFFFFFFFFu - static_cast<uint32_t>(key));
}

}  // namespace lockstep::cuda
