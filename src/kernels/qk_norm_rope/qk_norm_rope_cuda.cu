#include "kernels/common/device_math.cuh"
#include "kernels/cuda_kernels.h"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;

__global__ void __launch_bounds__(kThreads) angles(const __grid_constant__ RopeAnglesArgs args) {
  const int64_t t = blockIdx.x, half = dim(args.inv_freq, 0);
  float* to = row<float>(args.cos_sin, t);
  const bool is_live = t < live(args.num_rows, dim(args.positions, 0));
  const float position = is_live ? static_cast<float>(*row<const int32_t>(args.positions, t)) : 0.0f;
  for (int64_t i = threadIdx.x; i < half; i += kThreads) {
    const float angle = position * static_cast<const float*>(args.inv_freq.data)[i];
    to[i] = is_live ? cosf(angle) * args.magnitude : 0.0f;
    to[half + i] = is_live ? sinf(angle) * args.magnitude : 0.0f;
  }
}

// One warp per row and head. Its head lies in shared memory in between, since out may be x.
__global__ void __launch_bounds__(kThreads) norm_and_rotate(const __grid_constant__ QkNormRopeArgs args) {
  extern __shared__ float heads[];
  const int64_t t = blockIdx.x, width = dim(args.x, 2);
  const int64_t h = blockIdx.y * kWarps + threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  await_launches();
  if (h >= dim(args.x, 1)) return;
  float* to = at<float>(args.out, t, h);
  if (t >= live(args.num_rows, dim(args.x, 0))) {
    for (int64_t i = lane; i < width; i += kWarp) to[i] = 0.0f;
    return;
  }
  const float* from = at<const float>(args.x, t, h);
  float* head = heads + threadIdx.x / kWarp * width;
  float squares = 0.0f;
  for (int64_t i = lane; i < width; i += kWarp) {
    const float x = head[i] = from[i];
    squares = __fmaf_rn(x, x, squares);
  }
  if (args.weight.data != nullptr) {
    const float scale = 1.0f / __fsqrt_rn(warp_sum(squares) / static_cast<float>(width) + args.epsilon);
    const float offset = args.flavour == NormFlavour::kZeroCentred ? 1.0f : 0.0f;
    const auto* weight = static_cast<const float*>(args.weight.data);
    for (int64_t i = lane; i < width; i += kWarp) head[i] = head[i] * scale * (offset + weight[i]);
  }
  __syncwarp();
  const int64_t half = args.cos_sin.data == nullptr ? 0 : dim(args.cos_sin, 1) / 2;
  const float* cos_sin = half == 0 ? nullptr : row<const float>(args.cos_sin, t);
  for (int64_t i = lane; i < width; i += kWarp) {
    float y = head[i];
    if (i < half) y = y * cos_sin[i] - head[i + half] * cos_sin[half + i];
    if (i >= half && i < 2 * half) y = y * cos_sin[i - half] + head[i - half] * cos_sin[i];
    to[i] = y;
  }
}

}  // namespace

void rope_angles(const RopeAnglesArgs& args, Worker worker) {
  launch_grid(worker, angles, {blocks_of(args.positions.dim(0)), kThreads}, args);
}

void qk_norm_rope(const QkNormRopeArgs& args, Worker worker) {
  const int64_t heads = args.x.dim(1);
  launch_early(worker, norm_and_rotate,
               {blocks_of(args.x.dim(0), (heads + kWarps - 1) / kWarps), kThreads,
                static_cast<size_t>(kWarps * args.x.dim(2)) * sizeof(float)},
               args);
}

}  // namespace lockstep::cuda
