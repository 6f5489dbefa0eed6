// The kernels of sigmoid_gate and gated_add, one per instruction set.
#pragma once

#include "kernels/gate/gate.h"

namespace lockstep::reference {
void sigmoid_gate(const SigmoidGateArgs& args, Worker worker);
void gated_add(const GatedAddArgs& args, Worker worker);
}  // namespace lockstep::reference
namespace lockstep::avx2 {
void sigmoid_gate(const SigmoidGateArgs& args, Worker worker);
void gated_add(const GatedAddArgs& args, Worker worker);
}  // namespace lockstep::avx2
namespace lockstep::avx512 {
void sigmoid_gate(const SigmoidGateArgs& args, Worker worker);
void gated_add(const GatedAddArgs& args, Worker worker);
}  // namespace lockstep::avx512
