#include "kernels/common/device_math.cuh"
#include "kernels/cuda_kernels.h"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) resolve(const __grid_constant__ ResolveTokensArgs args) {
  const int64_t t = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (t >= dim(args.out, 0)) return;
  int32_t token = 0;
  if (t < live(args.num_rows, dim(args.out, 0))) {
    const int64_t source = static_cast<const int32_t*>(args.token_source.data)[t];
    token = source < 0                      ? static_cast<const int32_t*>(args.token_ids.data)[t]
            : source < dim(args.sampled, 0) ? static_cast<const int32_t*>(args.sampled.data)[source]
                                            : -1;
  }
  static_cast<int32_t*>(args.out.data)[t] = token;
}

__global__ void __launch_bounds__(kThreads) gather(const __grid_constant__ GatherRowsArgs args) {
  const int64_t r = blockIdx.x, width = dim(args.out, 1);
  float* out = row<float>(args.out, r);
  const bool is_live = r < live(args.num_logits_rows, dim(args.out, 0));
  const int64_t from = is_live ? static_cast<const int32_t*>(args.rows.data)[r] : 0;
  const bool there = is_live && from >= 0 && from < dim(args.x, 0);
  const float fill = is_live ? __int_as_float(0x7FC00000) : 0.0f;
  for (int64_t e = threadIdx.x; e < width; e += kThreads)
    out[e] = there ? row<const float>(args.x, from)[e] : fill;
}

}  // namespace

void resolve_tokens(const ResolveTokensArgs& args, Worker worker) {
  launch_grid(worker, resolve, {blocks_of((args.out.dim(0) + kThreads - 1) / kThreads), kThreads}, args);
}

void gather_rows(const GatherRowsArgs& args, Worker worker) {
  launch_grid(worker, gather, {blocks_of(args.out.dim(0)), kThreads}, args);
}

}  // namespace lockstep::cuda
