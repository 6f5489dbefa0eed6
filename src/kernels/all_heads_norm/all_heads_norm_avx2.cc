#include "kernels/all_heads_norm/all_heads_norm_body.h"
#include "kernels/common/simd_avx2.h"

namespace lockstep::avx2 {

void head_squares(const HeadSquaresArgs& args, Worker worker) { head_squares_body<Simd>(args, worker); }
void all_heads_norm(const AllHeadsNormArgs& args, Worker worker) { all_heads_norm_body<Simd>(args, worker); }

}  // namespace lockstep::avx2
