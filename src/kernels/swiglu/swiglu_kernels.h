// The kernels of swiglu, one per instruction set.
#pragma once

#include "kernels/swiglu/swiglu.h"

namespace lockstep::reference {
void swiglu(const SwigluArgs& args, Worker worker);
}  // namespace lockstep::reference
