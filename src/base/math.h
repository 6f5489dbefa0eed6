// Overflow-safe integer arithmetic for sizes that come from outside.
#pragma once

#include <cstdint>
#include <optional>

namespace lockstep {

// a * b, or nothing where it does not fit.
template <typename T>
constexpr std::optional<T> checked_mul(T a, T b) {
  T out{};
  if (__builtin_mul_overflow(a, b, &out)) return std::nullopt;
  return out;
}

// a + b, or nothing where it does not fit.
template <typename T>
constexpr std::optional<T> checked_add(T a, T b) {
  T out{};
  if (__builtin_add_overflow(a, b, &out)) return std::nullopt;
  return out;
}

// ceil(a / b) for a >= 0, b > 0.
template <typename T>
constexpr T ceil_div(T a, T b) {
  return a / b + (a % b != 0);
}

// The least multiple of `multiple` that is >= a, for a >= 0, multiple > 0.
template <typename T>
constexpr T round_up(T a, T multiple) {
  return ceil_div(a, multiple) * multiple;
}

}  // namespace lockstep
