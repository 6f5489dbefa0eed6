#include "kernels/common/simd_avx2.h"
#include "kernels/compressed_keys/compressed_keys_body.h"

namespace lockstep::avx2 {

void compress_keys(const CompressKeysArgs& args, Worker worker) { compress_keys_body<Simd>(args, worker); }

}  // namespace lockstep::avx2
