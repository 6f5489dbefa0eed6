#include "kernels/common/device_math.cuh"
#include "kernels/cuda_kernels.h"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 256;

// One block per row. A thread reads again what it wrote itself. For rows that norm_vectors() does not take.
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

constexpr int kVectorThreads = 512;
constexpr int kVectors = 4;  // of four elements, of a thread

__device__ float squares_of(float4 x) {
  return __fmaf_rn(x.w, x.w, __fmaf_rn(x.z, x.z, __fmaf_rn(x.y, x.y, x.x * x.x)));
}

// One block per row, which stays in registers.
__global__ void __launch_bounds__(kVectorThreads) norm_vectors(const __grid_constant__ RmsNormArgs args) {
  const int64_t t = blockIdx.x;
  const int count = static_cast<int>(dim(args.x, 1) / 4);
  const auto* weight = static_cast<const float4*>(args.weight.data);
  const auto* from = reinterpret_cast<const float4*>(row<const float>(args.x, t));
  auto* sum =
      args.residual.data == nullptr ? nullptr : reinterpret_cast<float4*>(row<float>(args.residual, t));
  auto* to = reinterpret_cast<float4*>(row<float>(args.out, t));
  await_launches();
  const bool is_live = t < live(args.num_rows, dim(args.x, 0));
  float4 s[kVectors];
  float squares = 0.0f;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int i = v * kVectorThreads + static_cast<int>(threadIdx.x);
    s[v] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (i >= count || !is_live) continue;
    s[v] = from[i];
    if (sum == nullptr) continue;
    const float4 before = sum[i];
    s[v] = make_float4(before.x + s[v].x * args.x_scale, before.y + s[v].y * args.x_scale,
                       before.z + s[v].z * args.x_scale, before.w + s[v].w * args.x_scale);
  }
#pragma unroll
  for (int v = 0; v < kVectors; ++v) squares += squares_of(s[v]);
  squares = block_sum<kVectorThreads>(squares);
  const float scale = args.out_scale / __fsqrt_rn(squares / static_cast<float>(4 * count) + args.epsilon);
  const float offset = args.flavour == NormFlavour::kZeroCentred ? 1.0f : 0.0f;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int i = v * kVectorThreads + static_cast<int>(threadIdx.x);
    if (i >= count) continue;
    if (sum != nullptr) sum[i] = s[v];
    const float4 w = weight[i];
    to[i] = is_live ? make_float4(s[v].x * scale * (offset + w.x), s[v].y * scale * (offset + w.y),
                                  s[v].z * scale * (offset + w.z), s[v].w * scale * (offset + w.w))
                    : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  }
}

// Rows of all operands are whole vectors, few enough for a block's registers.
bool suits_vectors(const RmsNormArgs& args) {
  uintptr_t all = static_cast<uintptr_t>(args.x.dim(1)) * 4 | reinterpret_cast<uintptr_t>(args.weight.data);
  for (const TensorView* view : {&args.x, &args.residual, &args.out})
    all |= reinterpret_cast<uintptr_t>(view->data) | static_cast<uintptr_t>(view->stride(0)) * 4;
  return all % 16 == 0 && args.x.dim(1) <= int64_t{4} * kVectorThreads * kVectors;
}

}  // namespace

void rms_norm(const RmsNormArgs& args, Worker worker) {
  if (suits_vectors(args)) {
    launch_early(worker, norm_vectors, {blocks_of(args.x.dim(0)), kVectorThreads}, args);
    return;
  }
  launch_grid(worker, norm_rows, {blocks_of(args.x.dim(0)), kThreads}, args);
}

}  // namespace lockstep::cuda
