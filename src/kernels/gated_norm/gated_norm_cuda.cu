#include "kernels/common/device_math.cuh"
#include "kernels/cuda_kernels.h"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;

// One warp per row and head. A lane reads what it overwrites itself, since out may be x.
__global__ void __launch_bounds__(kThreads) norm_heads(const __grid_constant__ GatedNormArgs args) {
  const int64_t t = blockIdx.x, h = int64_t{blockIdx.y} * kWarps + threadIdx.x / kWarp;
  const int64_t width = dim(args.out, 2);
  const int lane = threadIdx.x % kWarp;
  if (h >= dim(args.out, 1)) return;
  float* out = at<float>(args.out, t, h);
  if (t >= live(args.num_rows, dim(args.out, 0))) {
    for (int64_t d = lane; d < width; d += kWarp) out[d] = 0.0f;
    return;
  }
  const float* x = at<const float>(args.x, t, h);
  const float* z = at<const float>(args.z, t, h);
  float squares = 0.0f;
  for (int64_t d = lane; d < width; d += kWarp) squares = __fmaf_rn(x[d], x[d], squares);
  const float scale = 1.0f / __fsqrt_rn(warp_sum(squares) / static_cast<float>(width) + args.epsilon);
  const auto* weight = static_cast<const float*>(args.weight.data);
  for (int64_t d = lane; d < width; d += kWarp)
    out[d] = x[d] * scale * weight[d] * (z[d] / (1.0f + expf(-z[d])));
}

}  // namespace

void gated_norm(const GatedNormArgs& args, Worker worker) {
  launch_grid(worker, norm_heads,
              {blocks_of(args.out.dim(0), (args.out.dim(1) + kWarps - 1) / kWarps), kThreads}, args);
}

}  // namespace lockstep::cuda
