#include "kernels/common/simd_avx2.h"
#include "kernels/qk_norm_rope/qk_norm_rope_body.h"

namespace lockstep::avx2 {

void qk_norm_rope(const QkNormRopeArgs& args, Worker worker) { qk_norm_rope_body<Simd>(args, worker); }

}  // namespace lockstep::avx2
