// The sigmoid of a router. Experts are chosen by sigmoid + bias, so two kernels that round it differently
// choose differently. This one is a fixed sequence of IEEE 754 operations in double, fused only where it says
// so, rounded to f32 at the end: every compiler, instruction set and device that keeps to the standard gives
// its bits. It is within 0.5001 units in the last place of the exact value.
#pragma once

#include <bit>
#include <cstdint>

namespace lockstep {

// exp(y) for |y| <= 700, within 3e-13 of itself.
[[gnu::always_inline]] inline double routing_exp(double y) {
  constexpr double kLog2E = 0x1.71547652b82fep0, kLn2High = 0x1.62e42fefa3800p-1,
                   kLn2Low = 0x1.ef35793c76730p-45;
  // Adding 1.5 * 2^52 leaves the nearest integer in the low bits.
  constexpr double kShift = 0x1.8p52;
  const double shifted = __builtin_fma(y, kLog2E, kShift);
  const double n = shifted - kShift;
  double r = __builtin_fma(n, -kLn2High, y);
  r = __builtin_fma(n, -kLn2Low, r);
  // Taylor to the 10th power: |r| <= ln(2) / 2, and the rest is below r^11 / 11!.
  double p = 1.0 / 3628800;
  p = __builtin_fma(p, r, 1.0 / 362880);
  p = __builtin_fma(p, r, 1.0 / 40320);
  p = __builtin_fma(p, r, 1.0 / 5040);
  p = __builtin_fma(p, r, 1.0 / 720);
  p = __builtin_fma(p, r, 1.0 / 120);
  p = __builtin_fma(p, r, 1.0 / 24);
  p = __builtin_fma(p, r, 1.0 / 6);
  p = __builtin_fma(p, r, 0.5);
  p = __builtin_fma(p, r, 1.0);
  p = __builtin_fma(p, r, 1.0);
  // Times 2^n, which is exact: n + 1023 is a normal exponent.
  const uint64_t power = (std::bit_cast<uint64_t>(shifted) + 1023) << 52;
  return p * std::bit_cast<double>(power);
}

// 1 / (1 + exp(-x)), f32; 0 and 1 at the infinities, NaN of NaN.
[[gnu::always_inline]] inline float routing_sigmoid(float x) {
  const double y = -static_cast<double>(x);
  const double low = y > -700.0 ? y : -700.0;  // beyond, f32 has 0 and 1 only
  const double clamped = low < 700.0 ? low : 700.0;
  const auto sigmoid = static_cast<float>(1.0 / (1.0 + routing_exp(clamped)));
  return x == x ? sigmoid : x;
}

}  // namespace lockstep
