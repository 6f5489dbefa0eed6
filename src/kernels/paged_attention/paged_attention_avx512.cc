#include "kernels/common/simd_avx512.h"
#include "kernels/paged_attention/paged_attention_body.h"

namespace lockstep::avx512 {

void paged_attention(const PagedAttentionArgs& args, Worker worker) {
  paged_attention_body<Simd>(args, worker);
}

}  // namespace lockstep::avx512
