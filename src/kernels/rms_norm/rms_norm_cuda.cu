#include "kernels/common/device_math.cuh"
#include "kernels/cuda_kernels.h"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 256;

// One block per row. A thread reads again what it wrote itself.
__global__ void __launch_bounds__(kThreads) norm_rows(const __grid_constant__ RmsNormArgs args) {
  const int64_t t = blockIdx.x, width = dim(args.x, 1);
  const float* from = row<const float>(args.x, t);
  float* sum = args.residual.data == nullptr ? nullptr : row<float>(args.residual, t);
  float* to = row<float>(args.out, t);
  if (t >= live(args.num_rows, dim(args.x, 0))) {
    for (int64_t i = threadIdx.x; i < width; i += kThreads) {
      to[i] = 0.0f;
      if (sum != nullptr) sum[i] = 0.0f;
    }
    return;
  }
  float squares = 0.0f;
  for (int64_t i = threadIdx.x; i < width; i += kThreads) {
    float s = from[i];
    if (sum != nullptr) sum[i] = s = sum[i] + s * args.x_scale;
    squares = __fmaf_rn(s, s, squares);
  }
  squares = block_sum<kThreads>(squares);
  const float scale = args.out_scale / __fsqrt_rn(squares / static_cast<float>(width) + args.epsilon);
  const float offset = args.flavour == NormFlavour::kZeroCentred ? 1.0f : 0.0f;
  const auto* weight = static_cast<const float*>(args.weight.data);
  const float* s = sum == nullptr ? from : sum;
  for (int64_t i = threadIdx.x; i < width; i += kThreads) to[i] = s[i] * scale * (offset + weight[i]);
}

}  // namespace

void rms_norm(const RmsNormArgs& args, Worker worker) {
  launch_grid(worker, norm_rows, {blocks_of(args.x.dim(0)), kThreads}, args);
}

}  // namespace lockstep::cuda
