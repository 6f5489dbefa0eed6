#include "kernels/common/simd_avx2.h"
#include "kernels/lightning/lightning_body.h"

namespace lockstep::avx2 {

void lightning(const LightningArgs& args, Worker worker) { lightning_body<Simd>(args, worker); }

}  // namespace lockstep::avx2
