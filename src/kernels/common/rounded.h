// Test support for ops whose numbers may enter products rounded to bf16: how far from the truth they are.
#pragma once

#include <cmath>
#include <cstddef>

namespace lockstep::testing {

// The largest |got - truth| / |truth|, norms over all elements, that roundings explain: a product of sums
// passes some five of them, of 2^-9 / sqrt 3 at most each and independent of each other, and what a state
// keeps of earlier ones about doubles them. Lengths do not enter: what is wrong fades as the state does.
inline constexpr double kRoundedDistance = 4 * 0x1p-9;

// Norms over elements added one by one. NaN, if a number is none.
struct Distance {
  double error = 0, size = 0;
  void add(double got, double truth) {
    error += (got - truth) * (got - truth);
    size += truth * truth;
  }
  double get() const { return size > 0 ? std::sqrt(error / size) : std::sqrt(error); }
};

}  // namespace lockstep::testing
