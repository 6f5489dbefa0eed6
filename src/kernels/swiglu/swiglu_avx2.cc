#include "kernels/common/simd_avx2.h"
#include "kernels/swiglu/swiglu_body.h"

namespace lockstep::avx2 {

void swiglu(const SwigluArgs& args, Worker worker) { swiglu_rows<Simd>(args, worker); }

}  // namespace lockstep::avx2
