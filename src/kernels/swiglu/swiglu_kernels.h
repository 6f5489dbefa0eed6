// The kernels of swiglu, one per instruction set.
#pragma once

#include "kernels/swiglu/swiglu.h"

namespace lockstep::reference {
void swiglu(const SwigluArgs& args, Worker worker);
}  // namespace lockstep::reference

namespace lockstep::avx2 {
void swiglu(const SwigluArgs& args, Worker worker);
}  // namespace lockstep::avx2

namespace lockstep::avx512 {
void swiglu(const SwigluArgs& args, Worker worker);
}  // namespace lockstep::avx512
