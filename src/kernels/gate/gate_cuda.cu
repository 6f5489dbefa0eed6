#include "kernels/common/device_math.cuh"
#include "kernels/cuda_kernels.h"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 128;

// exp(-x) overflows to infinity for very negative x, and 1 / infinity is the right limit.
__device__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__global__ void __launch_bounds__(kThreads) gate_heads(const __grid_constant__ SigmoidGateArgs args) {
  const int64_t t = blockIdx.x, h = blockIdx.y, width = dim(args.x, 2);
  const bool is_live = t < live(args.num_rows, dim(args.x, 0));
  const float* x = at<const float>(args.x, t, h);
  const float* gate = at<const float>(args.gate, t, h);
  float* out = at<float>(args.out, t, h);
  for (int64_t i = threadIdx.x; i < width; i += kThreads) out[i] = is_live ? x[i] * sigmoid(gate[i]) : 0.0f;
}

__global__ void __launch_bounds__(kThreads) add_rows(const __grid_constant__ GatedAddArgs args) {
  const int64_t t = blockIdx.x, i = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  if (i >= dim(args.y, 1)) return;
  float* out = row<float>(args.out, t) + i;
  if (t >= live(args.num_rows, dim(args.y, 0))) {
    *out = 0.0f;
    return;
  }
  const float gate = args.gate.data == nullptr ? 1.0f : sigmoid(*row<const float>(args.gate, t));
  *out = *out + gate * row<const float>(args.y, t)[i];
}

}  // namespace

void sigmoid_gate(const SigmoidGateArgs& args, Worker worker) {
  launch_grid(worker, gate_heads, {blocks_of(args.x.dim(0), args.x.dim(1)), kThreads}, args);
}

void gated_add(const GatedAddArgs& args, Worker worker) {
  launch_grid(worker, add_rows,
              {blocks_of(args.y.dim(0), (args.y.dim(1) + kThreads - 1) / kThreads), kThreads}, args);
}

}  // namespace lockstep::cuda
