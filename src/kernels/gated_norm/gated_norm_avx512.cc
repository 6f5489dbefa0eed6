#include "kernels/common/simd_avx512.h"
#include "kernels/gated_norm/gated_norm_body.h"

namespace lockstep::avx512 {

void gated_norm(const GatedNormArgs& args, Worker worker) { gated_norm_body<Simd>(args, worker); }

}  // namespace lockstep::avx512
