// The kernels of linear, one set per instruction set. Every set computes kRowMajor weights with the
// reference kernel: that layout serves oracles and embedding tables.
#pragma once

#include "kernels/linear/linear.h"

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
