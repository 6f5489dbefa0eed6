// Elementary functions on the lanes of a vector type (simd_avx2.h, simd_avx512.h). Forced inline, as the
// vector types are.
#pragma once

namespace lockstep {

// e^x. Error: at most 2 ulp where the result is a normal number; results below 2^-126 are zero, because
// subnormals are slow and nobody adds them. exp(0) is exactly 1, exp(-inf) is 0, NaN stays NaN, overflow is
// infinity.
// Source: Cody and Waite's reduction and the polynomial of expf in Moshier's Cephes library.
template <typename V>
[[gnu::always_inline]] inline typename V::Reg simd_exp(typename V::Reg x) {
  using Reg = typename V::Reg;
  const Reg lowest = V::set1(-87.3365447f);  // ln 2^-126, rounded to the side that stays normal
  // x stands second, so that a NaN passes through.
  const Reg bounded = V::max(V::set1(-88.0f), V::min(V::set1(89.0f), x));
  const Reg power = V::round(V::mul(bounded, V::set1(1.44269504f)));
  // ln 2 in two parts, the first with few enough bits that power * part is exact.
  Reg rest = V::fnma(power, V::set1(0.693359375f), bounded);
  rest = V::fnma(power, V::set1(-2.12194440e-4f), rest);
  Reg series = V::set1(1.9875691500e-4f);
  series = V::fma(series, rest, V::set1(1.3981999507e-3f));
  series = V::fma(series, rest, V::set1(8.3334519073e-3f));
  series = V::fma(series, rest, V::set1(4.1665795894e-2f));
  series = V::fma(series, rest, V::set1(1.6666665459e-1f));
  series = V::fma(series, rest, V::set1(5.0000001201e-1f));
  series = V::add(V::fma(V::mul(rest, rest), series, rest), V::set1(1.0f));
  return V::select(V::less(x, lowest), V::zero(), V::scale_by_power(series, power));
}

// 1 / (1 + e^-x): 0 and 1 in the limits. Error: a few ulp.
template <typename V>
[[gnu::always_inline]] inline typename V::Reg simd_sigmoid(typename V::Reg x) {
  const typename V::Reg one = V::set1(1.0f);
  return V::div(one, V::add(one, simd_exp<V>(V::sub(V::zero(), x))));
}

// x sigmoid(x) = x / (1 + e^-x). Error: a few ulp.
template <typename V>
[[gnu::always_inline]] inline typename V::Reg simd_silu(typename V::Reg x) {
  return V::div(x, V::add(V::set1(1.0f), simd_exp<V>(V::sub(V::zero(), x))));
}

}  // namespace lockstep
