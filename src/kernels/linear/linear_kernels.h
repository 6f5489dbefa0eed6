// The kernels of linear, one set per instruction set. Every set computes kRowMajor weights with the
// reference kernel: that layout serves oracles and embedding tables.
#pragma once

#include "kernels/linear/linear.h"

namespace lockstep {

// Whether each worker prepares all inputs for itself, on its stack, instead of a launch of its own that
// shares them out: few inputs are rounded faster than they travel from one core's cache to another's (Zen 4,
// 2 cores: 4 rows of K = N = 256 take 2.2 instead of 4.1 us, 8 rows of K = 3072, N = 1024 take 120 instead of
// 133).
inline constexpr int64_t kOwnInputs = 24576;
[[gnu::always_inline]] inline bool prepares_own_inputs(const LinearArgs& args) {
  return args.x.shape.dims[0] * ((args.weight.k + 31) / 32 * 32) <= kOwnInputs;
}

}  // namespace lockstep

namespace lockstep::reference {
void linear(const LinearArgs& args, Worker worker);
}  // namespace lockstep::reference

namespace lockstep::avx2 {
void linear_prepare(const LinearArgs& args, Worker worker);
void linear(const LinearArgs& args, Worker worker);
}  // namespace lockstep::avx2

namespace lockstep::avx512 {
void linear_prepare(const LinearArgs& args, Worker worker);
void linear(const LinearArgs& args, Worker worker);
}  // namespace lockstep::avx512

namespace lockstep::avx512bf16 {
void linear_prepare(const LinearArgs& args, Worker worker);
void linear(const LinearArgs& args, Worker worker);
}  // namespace lockstep::avx512bf16
