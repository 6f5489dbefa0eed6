#include "kernels/common/device_math.cuh"
#include "kernels/cuda_kernels.h"
#include "kernels/linear/packed_offset.cuh"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 256;

template <typename W>
__global__ void __launch_bounds__(kThreads) look_up(const __grid_constant__ EmbeddingArgs args) {
  const int64_t t = blockIdx.x, width = args.table.k;
  const int64_t vocab = args.vocab > 0 ? args.vocab : args.table.n;
  float* out = row<float>(args.out, t);
  const bool is_live = t < live(args.num_rows, dim(args.out, 0));
  const int64_t id = is_live ? *row<const int32_t>(args.token_ids, t) : 0;
  const int64_t from = id - args.first_row;
  const bool known = id >= 0 && id < vocab;
  const bool here = is_live && known && from >= 0 && from < args.table.n;
  const float fill = is_live && !known ? __int_as_float(0x7FC00000) : 0.0f;
  const W* table = static_cast<const W*>(args.table.data);
  for (int64_t e = threadIdx.x; e < width; e += kThreads)
    out[e] = here ? to_float(table[offset_in<W>(args.table, from, e)]) * args.scale : fill;
}

}  // namespace

void embedding(const EmbeddingArgs& args, Worker worker) {
  with_element(args.table.dtype, [&]<typename W>() {
    launch_grid(worker, look_up<W>, {blocks_of(args.out.dim(0)), kThreads}, args);
  });
}

}  // namespace lockstep::cuda
