#include "kernels/common/simd_avx2.h"
#include "kernels/rms_norm/rms_norm_body.h"

namespace lockstep::avx2 {

void rms_norm(const RmsNormArgs& args, Worker worker) { rms_norm_body<Simd>(args, worker); }

}  // namespace lockstep::avx2
