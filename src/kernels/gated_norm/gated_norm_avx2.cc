#include "kernels/common/simd_avx2.h"
#include "kernels/gated_norm/gated_norm_body.h"

namespace lockstep::avx2 {

void gated_norm(const GatedNormArgs& args, Worker worker) { gated_norm_body<Simd>(args, worker); }

}  // namespace lockstep::avx2
