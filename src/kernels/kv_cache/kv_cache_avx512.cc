#include "kernels/common/simd_avx512.h"
#include "kernels/kv_cache/store_kv_body.h"

namespace lockstep::avx512 {

void store_kv(const StoreKvArgs& args, Worker worker) { store_kv_body<Simd>(args, worker); }

}  // namespace lockstep::avx512
