#include "kernels/common/simd_avx512.h"
#include "kernels/compressed_keys/compressed_keys_body.h"

namespace lockstep::avx512 {

void compress_keys(const CompressKeysArgs& args, Worker worker) { compress_keys_body<Simd>(args, worker); }

}  // namespace lockstep::avx512
