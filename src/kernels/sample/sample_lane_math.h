// The arithmetic of sample_math.h on lanes: operation by operation the same, so bit by bit the same.
#pragma once

#include "kernels/sample/sample_math.h"

namespace lockstep::sampling {

template <typename L>
[[gnu::always_inline]] inline typename L::Reg finite_lanes(typename L::Reg x) {
  const typename L::Reg lowest = L::set1(-kLargest), largest = L::set1(kLargest);
  const typename L::Reg above = L::select(L::less(lowest, x), x, lowest);
  return L::select(L::less(above, largest), above, largest);
}

template <typename L>
[[gnu::always_inline]] inline typename L::Reg exp_negative_lanes(typename L::Reg x) {
  using Reg = typename L::Reg;
  const Reg shifted = L::fma(x, L::set1(kLog2E), L::set1(kRound));
  const Reg n = L::sub(shifted, L::set1(kRound));
  const Reg high = L::fma(n, L::set1(-kLn2High), x);
  const Reg r = L::fma(n, L::set1(-kLn2Low), high);
  Reg p = L::set1(kExpSeries[0]);
#pragma GCC unroll 5
  for (int i = 1; i < 6; ++i) p = L::fma(p, r, L::set1(kExpSeries[i]));
  const Reg y = L::add(L::fma(p, L::mul(r, r), r), L::set1(1.0f));
  const auto power = L::template shift_left<23>(L::bits_of(shifted));
  const Reg result = L::floats_of(L::add_words(L::bits_of(y), power));
  return L::select(L::less(L::set1(kExpFloor), x), result, L::zero());
}

template <typename L>
[[gnu::always_inline]] inline typename L::Reg log_positive_lanes(typename L::Reg x) {
  using Reg = typename L::Reg;
  const auto bits = L::bits_of(x);
  const auto exponent = L::template shift_right_signed<23>(
      L::sub_words(bits, L::set1_words(static_cast<uint32_t>(kSqrtHalfBits))));
  const auto mantissa = L::sub_words(bits, L::template shift_left<23>(exponent));
  const Reg e = L::to_float(exponent);
  const Reg f = L::sub(L::floats_of(mantissa), L::set1(1.0f));
  const Reg squared = L::mul(f, f);
  Reg p = L::set1(kLogSeries[0]);
#pragma GCC unroll 8
  for (int i = 1; i < 9; ++i) p = L::fma(p, f, L::set1(kLogSeries[i]));
  const Reg cubed = L::mul(squared, f);
  Reg y = L::fma(e, L::set1(kLogLow), L::mul(p, cubed));
  y = L::fma(squared, L::set1(-0.5f), y);
  return L::fma(e, L::set1(kLogHigh), L::add(f, y));
}

// The four words of the counters in `counter`.
template <typename L>
struct PhiloxLanes {
  typename L::Words word[4];

  [[gnu::always_inline]] PhiloxLanes(uint64_t seed, int32_t position, typename L::Words counter)
      : word{counter, L::set1_words(static_cast<uint32_t>(position)), L::set1_words(0), L::set1_words(0)} {
    uint32_t key[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
#pragma GCC unroll 10
    for (int round = 0; round < kPhiloxRounds; ++round) {
      typename L::Words even_high, even_low, odd_high, odd_low;
      L::multiply_words(word[0], L::set1_words(kPhiloxMultiplier[0]), even_high, even_low);
      L::multiply_words(word[2], L::set1_words(kPhiloxMultiplier[1]), odd_high, odd_low);
      word[0] = L::xor_words(L::xor_words(odd_high, word[1]), L::set1_words(key[0]));
      word[2] = L::xor_words(L::xor_words(even_high, word[3]), L::set1_words(key[1]));
      word[1] = odd_low;
      word[3] = even_low;
      key[0] += kPhiloxWeyl[0];
      key[1] += kPhiloxWeyl[1];
    }
  }
};

template <typename L>
[[gnu::always_inline]] inline typename L::Reg gumbel_lanes(typename L::Words bits) {
  using Reg = typename L::Reg;
  const Reg one = L::set1(1.0f), most = L::set1(kUniformMax);
  const Reg raw =
      L::fma(L::to_float(L::template shift_right<1>(bits)), L::set1(kUniformUnit), L::set1(kUniformHalf));
  const Reg v = L::select(L::less(raw, most), raw, most);
  const Reg w = L::sub(one, v);
  const Reg lost = L::sub(one, w);
  const Reg minus_log = L::sub(L::zero(), log_positive_lanes<L>(w));
  const Reg exponential = L::select(L::less(L::zero(), lost), L::mul(minus_log, L::div(v, lost)), v);
  return L::sub(L::zero(), log_positive_lanes<L>(exponential));
}

template <typename L>
[[gnu::always_inline]] inline typename L::Reg penalised_lanes(typename L::Reg logit, typename L::Words count,
                                                              const Penalties& by) {
  using Reg = typename L::Reg;
  const auto none = L::set1_words(0);
  const auto generated = L::template shift_right_signed<1>(count);
  const Reg repetition = L::set1(by.repetition);
  const Reg repeated =
      L::select(L::less(L::zero(), logit), L::div(logit, repetition), L::mul(logit, repetition));
  const Reg seen = L::select(L::less_words(none, count), repeated, logit);
  const Reg often = L::fma(L::to_float(generated), L::set1(-by.frequency), seen);
  const Reg present = L::select(L::less_words(none, generated), L::set1(by.presence), L::zero());
  return L::sub(often, present);
}

}  // namespace lockstep::sampling
