#include "kernels/common/simd_avx512.h"
#include "kernels/gate/gate_body.h"

namespace lockstep::avx512 {

void sigmoid_gate(const SigmoidGateArgs& args, Worker worker) { sigmoid_gate_body<Simd>(args, worker); }
void gated_add(const GatedAddArgs& args, Worker worker) { gated_add_body<Simd>(args, worker); }

}  // namespace lockstep::avx512
