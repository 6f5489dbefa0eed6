#include "kernels/common/device_math.cuh"
#include "kernels/cuda_kernels.h"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) gate_rows(const __grid_constant__ SwigluArgs args) {
  const int64_t t = blockIdx.x, width = dim(args.out, 1);
  const int64_t f = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  await_launches();
  if (f >= width) return;
  float y = 0.0f;
  if (t < live(args.num_rows, dim(args.out, 0))) {
    const float* gate = row<const float>(args.gate_up, t);
    y = gate[f] / (1.0f + expf(-gate[f])) * gate[width + f];
  }
  row<float>(args.out, t)[f] = y;
}

}  // namespace

void swiglu(const SwigluArgs& args, Worker worker) {
  const int64_t chunks = (args.out.dim(1) + kThreads - 1) / kThreads;
  launch_early(worker, gate_rows, {blocks_of(args.out.dim(0), chunks), kThreads}, args);
}

}  // namespace lockstep::cuda
