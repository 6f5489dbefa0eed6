// Products of a few bf16 rows on matrix units.
#pragma once

#include "kernels/linear/linear.h"

namespace lockstep::cuda {

inline constexpr int kLinearRows = 8;

// out = x * W' for at most kLinearRows rows that enter rounded to bf16. Rows of x and of the weight begin at
// vectors of 16 bytes, and k is a multiple of 8. Pad rows become zeros.
void multiply_few_rows(const LinearArgs& args, const Worker& worker);

}  // namespace lockstep::cuda
