#include "kernels/causal_conv/causal_conv_body.h"
#include "kernels/common/simd_avx2.h"

namespace lockstep::avx2 {

void causal_conv(const CausalConvArgs& args, Worker worker) { causal_conv_body<Simd>(args, worker); }
void causal_conv_state(const CausalConvArgs& args, Worker worker) {
  causal_conv_state_body<Simd>(args, worker);
}

}  // namespace lockstep::avx2
