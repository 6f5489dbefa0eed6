// The arithmetic of sampling, defined operation by operation in IEEE f32 and integers so that every
// instruction set and every device computes the same bits. `fma` rounds once; nothing here may be contracted,
// reassociated or replaced by a library's function. Vector and device code repeats these lines; tests
// compare.
#pragma once

#include <bit>
#include <cstdint>

namespace lockstep::sampling {

inline constexpr float kLargest = 0x1.fffffep127f;
// Added to a small float, it leaves the nearest integer in the low bits.
inline constexpr float kRound = 0x1.8p23f;
inline constexpr float kLog2E = 0x1.715476p0f;     // 1 / ln 2
inline constexpr float kLn2High = 0x1.62ep-1f;     // 13 bits, so that n * kLn2High is exact
inline constexpr float kLn2Low = 0x1.0bfbe8p-15f;  // ln 2 - kLn2High
inline constexpr float kExpFloor = -87.0f;         // exp of anything below counts as zero
// exp(r) = 1 + r + r^2 p(r) on [-ln2/2, ln2/2]; highest power first (Cephes expf).
inline constexpr float kExpSeries[6] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                                        4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
// log(1 + f) = f - f^2/2 + f^3 p(f) on [sqrt(1/2) - 1, sqrt(2) - 1]; highest power first (Cephes logf).
inline constexpr float kLogSeries[9] = {7.0376836292e-2f,  -1.1514610310e-1f, 1.1676998740e-1f,
                                        -1.2420140846e-1f, 1.4249322787e-1f,  -1.6668057665e-1f,
                                        2.0000714765e-1f,  -2.4999993993e-1f, 3.3333331174e-1f};
inline constexpr int32_t kSqrtHalfBits = 0x3F3504F3;
inline constexpr float kLogHigh = 0.693359375f;
inline constexpr float kLogLow = -2.12194440e-4f;  // ln 2 - kLogHigh

// Sums of probabilities are integers in units of 2^-44, so their order does not matter. Adding 1.5 * 2^8 to a
// double in [0, 1] rounds it to that unit (nearest even) and leaves it in the low bits.
inline constexpr double kMassRound = 384.0;
inline constexpr float kMassUnit = 0x1p-44f;
inline constexpr int64_t kMaxVocab = int64_t{1} << 19;  // so that a sum fits 64 bits with room to spare

// Philox 4x32-10 (Salmon et al. 2011, Parallel Random Numbers: As Easy as 1, 2, 3).
inline constexpr uint32_t kPhiloxMultiplier[2] = {0xD2511F53u, 0xCD9E8D57u};
inline constexpr uint32_t kPhiloxWeyl[2] = {0x9E3779B9u, 0xBB67AE85u};
inline constexpr int kPhiloxRounds = 10;
// A group of 64 tokens takes 16 counters of 4 words: token v has counter v / 64 * 16 + v % 16, word v / 16 %
// 4, so that neighbouring tokens lie in neighbouring lanes.
inline constexpr int64_t kNoiseGroup = 64;

inline constexpr float kUniformUnit = 0x1p-31f;
inline constexpr float kUniformHalf = 0x1p-32f;
inline constexpr float kUniformMax = 0x1.fffffep-1f;
inline constexpr float kGumbelMax = 23.0f;  // above every value of gumbel(): -ln(2^-32) = 22.2

// A temperature below this, or NaN, draws the best token (the bound of vLLM).
inline constexpr float kGreedyBelow = 1e-5f;

// e^x for x <= 0, below kExpFloor 0. Relative error below 2^-23.
[[gnu::always_inline]] inline float exp_negative(float x) {
  const float shifted = __builtin_fmaf(x, kLog2E, kRound);
  const float n = shifted - kRound;
  const float high = __builtin_fmaf(n, -kLn2High, x);
  const float r = __builtin_fmaf(n, -kLn2Low, high);
  float p = kExpSeries[0];
  for (int i = 1; i < 6; ++i) p = __builtin_fmaf(p, r, kExpSeries[i]);
  const float squared = r * r;
  const float y = __builtin_fmaf(p, squared, r) + 1.0f;
  const uint32_t power = std::bit_cast<uint32_t>(shifted) << 23;  // kRound's own bits leave at the top
  const auto result = std::bit_cast<float>(std::bit_cast<uint32_t>(y) + power);
  return x > kExpFloor ? result : 0.0f;
}

// ln x of a positive, normal, finite x. Error below 2^-23 of the result or 2^-24, whichever is larger.
[[gnu::always_inline]] inline float log_positive(float x) {
  const auto bits = std::bit_cast<int32_t>(x);
  const int32_t exponent = (bits - kSqrtHalfBits) >> 23;
  const auto mantissa = static_cast<uint32_t>(bits) - (static_cast<uint32_t>(exponent) << 23);
  const auto e = static_cast<float>(exponent);
  const float f = std::bit_cast<float>(mantissa) - 1.0f;
  const float squared = f * f;
  float p = kLogSeries[0];
  for (int i = 1; i < 9; ++i) p = __builtin_fmaf(p, f, kLogSeries[i]);
  const float cubed = squared * f;
  float y = __builtin_fmaf(e, kLogLow, p * cubed);
  y = __builtin_fmaf(squared, -0.5f, y);
  return __builtin_fmaf(e, kLogHigh, f + y);
}

// e in [0, 1] as a count of 2^-44, rounded to nearest even.
[[gnu::always_inline]] inline uint64_t mass_of(float e) {
  return std::bit_cast<uint64_t>(static_cast<double>(e) + kMassRound) - std::bit_cast<uint64_t>(kMassRound);
}

// The 32 random bits of (seed, position, token).
[[gnu::always_inline]] inline uint32_t random_bits(uint64_t seed, int32_t position, uint32_t token) {
  uint32_t word[4] = {token / 64 * 16 + token % 16, static_cast<uint32_t>(position), 0, 0};
  uint32_t key[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const uint64_t even = uint64_t{kPhiloxMultiplier[0]} * word[0];
    const uint64_t odd = uint64_t{kPhiloxMultiplier[1]} * word[2];
    word[0] = static_cast<uint32_t>(odd >> 32) ^ word[1] ^ key[0];
    word[2] = static_cast<uint32_t>(even >> 32) ^ word[3] ^ key[1];
    word[1] = static_cast<uint32_t>(odd);
    word[3] = static_cast<uint32_t>(even);
    for (int i = 0; i < 2; ++i) key[i] += kPhiloxWeyl[i];
  }
  return word[token / 16 % 4];
}

// Standard Gumbel noise -ln(-ln(1 - v)) from 32 random bits; v uniform, strictly inside (0, 1), finest near
// 0, where the large values lie. ln(1 - v) keeps its relative accuracy as log(w) * v / (1 - w), w = 1 - v
// rounded (Kahan's log1p).
[[gnu::always_inline]] inline float gumbel(uint32_t bits) {
  const float raw =
      __builtin_fmaf(static_cast<float>(static_cast<int32_t>(bits >> 1)), kUniformUnit, kUniformHalf);
  const float v = raw < kUniformMax ? raw : kUniformMax;
  const float w = 1.0f - v;
  const float lost = 1.0f - w;
  const float exponential = lost > 0.0f ? -log_positive(w) * (v / lost) : v;
  return -log_positive(exponential);
}

// A raw logit after the penalties for `count`, an entry of CountTokensArgs::counts.
struct Penalties {
  float repetition = 1;
  float presence = 0;
  float frequency = 0;
};
[[gnu::always_inline]] inline float penalised(float logit, int32_t count, const Penalties& by) {
  const int32_t generated = count >> 1;
  const float repeated = logit > 0.0f ? logit / by.repetition : logit * by.repetition;
  const float seen = count > 0 ? repeated : logit;
  const float often = __builtin_fmaf(static_cast<float>(generated), -by.frequency, seen);
  return often - (generated > 0 ? by.presence : 0.0f);
}

// Held to the finite floats; NaN becomes the lowest.
[[gnu::always_inline]] inline float finite(float x) {
  const float above = x > -kLargest ? x : -kLargest;
  return above < kLargest ? above : kLargest;
}

// Unsigned order of the result = order of the floats; -0 below +0. Precondition: not NaN.
[[gnu::always_inline]] inline uint32_t order_of(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

}  // namespace lockstep::sampling
