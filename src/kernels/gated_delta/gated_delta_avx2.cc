#include "kernels/common/simd_avx2.h"
#include "kernels/gated_delta/gated_delta_body.h"

namespace lockstep::avx2 {

void gated_delta(const GatedDeltaArgs& args, Worker worker) { gated_delta_body<Simd>(args, worker); }

}  // namespace lockstep::avx2
