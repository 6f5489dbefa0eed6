#include "kernels/causal_conv/causal_conv_body.h"
#include "kernels/common/simd_avx512.h"

namespace lockstep::avx512 {

void causal_conv(const CausalConvArgs& args, Worker worker) { causal_conv_body<Simd>(args, worker); }
void causal_conv_state(const CausalConvArgs& args, Worker worker) {
  causal_conv_state_body<Simd>(args, worker);
}

}  // namespace lockstep::avx512
