#include "kernels/common/simd_avx512.h"
#include "kernels/sparse_attention/sparse_attention_body.h"

namespace lockstep::avx512 {

void sparse_attention(const SparseAttentionArgs& args, Worker worker) {
  sparse_attention_body<Simd>(args, worker);
}

}  // namespace lockstep::avx512
