#include "kernels/common/device_math.cuh"
#include "kernels/cuda_kernels.h"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) sum_squares(const __grid_constant__ HeadSquaresArgs args) {
  const int64_t t = blockIdx.x, size = dim(args.x, 2);
  const bool is_live = t < live(args.num_rows, dim(args.x, 0));
  float squares = 0.0f;
  for (int64_t i = threadIdx.x; is_live && i < args.counted_heads * size; i += kThreads) {
    const float x = at<const float>(args.x, t, i / size)[i % size];
    squares = __fmaf_rn(x, x, squares);
  }
  squares = block_sum<kThreads>(squares);
  if (threadIdx.x == 0) *row<float>(args.out, t) = squares;
}

__global__ void __launch_bounds__(kThreads) norm_rows(const __grid_constant__ AllHeadsNormArgs args) {
  const int64_t t = blockIdx.x, size = dim(args.x, 2), all = dim(args.x, 1) * size;
  const bool is_live = t < live(args.num_rows, dim(args.x, 0));
  const float squares = is_live ? *row<const float>(args.squares, t) : 0.0f;
  const float scale = 1.0f / __fsqrt_rn(squares / static_cast<float>(args.width) + args.epsilon);
  const float offset = args.flavour == NormFlavour::kZeroCentred ? 1.0f : 0.0f;
  for (int64_t i = threadIdx.x; i < all; i += kThreads) {
    const int64_t h = i / size, d = i % size;
    const float gain = offset + row<const float>(args.weight, h)[d];
    at<float>(args.out, t, h)[d] = is_live ? at<const float>(args.x, t, h)[d] * scale * gain : 0.0f;
  }
}

}  // namespace

void head_squares(const HeadSquaresArgs& args, Worker worker) {
  launch_grid(worker, sum_squares, {blocks_of(args.x.dim(0)), kThreads}, args);
}

void all_heads_norm(const AllHeadsNormArgs& args, Worker worker) {
  launch_grid(worker, norm_rows, {blocks_of(args.x.dim(0)), kThreads}, args);
}

}  // namespace lockstep::cuda
