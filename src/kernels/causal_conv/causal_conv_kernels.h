// The kernels of causal_conv, one pair per instruction set: outputs first, then states, so that a state is
// overwritten only after every row that reads it is done.
#pragma once

#include "kernels/causal_conv/causal_conv.h"

namespace lockstep::reference {
void causal_conv(const CausalConvArgs& args, Worker worker);
void causal_conv_state(const CausalConvArgs& args, Worker worker);
}  // namespace lockstep::reference
namespace lockstep::avx2 {
void causal_conv(const CausalConvArgs& args, Worker worker);
void causal_conv_state(const CausalConvArgs& args, Worker worker);
}  // namespace lockstep::avx2
namespace lockstep::avx512 {
void causal_conv(const CausalConvArgs& args, Worker worker);
void causal_conv_state(const CausalConvArgs& args, Worker worker);
}  // namespace lockstep::avx512
