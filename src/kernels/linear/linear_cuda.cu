#include "kernels/common/device_math.cuh"
#include "kernels/cuda_kernels.h"
#include "kernels/linear/linear_kernels.h"
#include "kernels/linear/linear_rows.cuh"
#include "kernels/linear/load_run.cuh"
#include "kernels/linear/packed_offset.cuh"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
constexpr int kColumns = 4;  // outputs of a block: what is read of x serves so many weights
constexpr int kRows = 8;     // rows of a block, or one
constexpr int kRun = 8;      // k that a lane takes side by side

// What a lane reads of its block's weights at one k.
template <bool kAligned, typename W>
struct Weights {
  static constexpr int kVectors = kRun * static_cast<int>(sizeof(W)) / 16;
  uint4 words[kColumns][kVectors];

  __device__ void load(const LinearArgs& args, int64_t first_column, int64_t k) {
    const int64_t size = args.weight.k;
    if (k >= size) return;
    for (int c = 0; c < kColumns; ++c) {
      const int64_t n = first_column + c < args.weight.n ? first_column + c : args.weight.n - 1;
      const W* weights = static_cast<const W*>(args.weight.data);
      if constexpr (kAligned) {
        for (int i = 0; i < kVectors; ++i)
          words[c][i] = reinterpret_cast<const uint4*>(weights + n * size + k)[i];
      } else {
        W* values = reinterpret_cast<W*>(words[c]);
        for (int i = 0; i < kRun; ++i)
          values[i] = k + i < size ? weights[offset_in<W>(args.weight, n, k + i)] : W(0.0f);
      }
    }
  }
  __device__ float value(int c, int i) const { return to_float(reinterpret_cast<const W*>(words[c])[i]); }
};

// Sums of one lane over its share of k. The order is the same for every row, however many there are. Weights
// are on their way one round ahead; the first ones, which no launch writes, before the launches before are
// done.
template <bool kAligned, int R, typename W>
__device__ void add_products(const LinearArgs& args, int64_t first_row, int64_t first_column,
                             float (*sums)[kColumns]) {
  const int64_t size = args.weight.k, step = int64_t{kThreads} * kRun;
  int64_t k = int64_t{threadIdx.x} * kRun;
  Weights<kAligned, W> next;
  next.load(args, first_column, k);
  await_launches();
  const int64_t there = live(args.num_rows, dim(args.x, 0)) - first_row;
  for (; k < size; k += step) {
    const Weights<kAligned, W> now = next;
    next.load(args, first_column, k + step);
#pragma unroll
    for (int r = 0; r < R; ++r) {
      if (r >= there) break;
      float x[kRun];
      load_run<kAligned>(row<const float>(args.x, first_row + r), k, size, x);
      for (int i = 0; i < kRun; ++i) {
        const float entering = args.input == MatmulInput::kBF16 ? to_float(__float2bfloat16_rn(x[i])) : x[i];
        for (int c = 0; c < kColumns; ++c) sums[r][c] = __fmaf_rn(entering, now.value(c, i), sums[r][c]);
      }
    }
  }
}

// A block gives R rows of kColumns outputs; its threads share k.
template <bool kAligned, int R, typename W>
__global__ void __launch_bounds__(kThreads) multiply(const __grid_constant__ LinearArgs args) {
  __shared__ float parts[kWarps][R][kColumns];
  const int64_t first_row = int64_t{blockIdx.y} * R, first_column = int64_t{blockIdx.x} * kColumns;
  float sums[R][kColumns] = {};
  add_products<kAligned, R, W>(args, first_row, first_column, sums);
  const int64_t all = dim(args.x, 0), there = live(args.num_rows, all) - first_row;
  const int64_t rows = there < 0 ? 0 : there < R ? there : R;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
#pragma unroll
  for (int r = 0; r < R; ++r) {
    if (r >= rows) break;
    for (int c = 0; c < kColumns; ++c) {
      const float sum = warp_sum(sums[r][c]);
      if (lane == 0) parts[warp][r][c] = sum;
    }
  }
  __syncthreads();
  const int r = threadIdx.x / kColumns, c = threadIdx.x % kColumns;
  if (r >= R || first_row + r >= all || first_column + c >= args.weight.n) return;
  float sum = 0.0f;
  for (int part = 0; r < rows && part < kWarps; ++part) sum += parts[part][r][c];
  row<float>(args.out, first_row + r)[first_column + c] = sum;
}

constexpr int kRoundThreads = 256;

// x as bf16, side by side in the workspace; pad rows as zeros.
__global__ void __launch_bounds__(kRoundThreads) round_inputs(const __grid_constant__ LinearArgs args) {
  const int64_t t = blockIdx.x, k = int64_t{blockIdx.y} * kRoundThreads + threadIdx.x;
  await_launches();
  if (k >= args.weight.k) return;
  const bool is_live = t < live(args.num_rows, dim(args.x, 0));
  static_cast<__nv_bfloat16*>(args.workspace.data)[t * args.weight.k + k] =
      from_float<__nv_bfloat16>(is_live ? row<const float>(args.x, t)[k] : 0.0f);
}

// More rows than a block takes, bf16 throughout, and inputs that a launch of their own has rounded: matrix
// units do that.
bool suits_library(const LinearArgs& args) {
  const auto operands = static_cast<int64_t>(reinterpret_cast<uintptr_t>(args.weight.data) |
                                             reinterpret_cast<uintptr_t>(args.workspace.data) |
                                             reinterpret_cast<uintptr_t>(args.out.data));
  return args.x.dim(0) > kRows && !prepares_own_inputs(args) && args.input == MatmulInput::kBF16 &&
         args.weight.layout == WeightLayout::kRowMajor && args.weight.k % 8 == 0 &&
         args.out.stride(0) % 4 == 0 && operands % Products::kAlignment == 0;
}

void multiply_by_library(const LinearArgs& args, const Worker& worker) {
  static_cast<CudaQueue*>(worker.queue)
      ->multiply({.x = args.workspace.data,
                  .weight = args.weight.data,
                  .out = static_cast<float*>(args.out.data),
                  .rows = args.x.dim(0),
                  .outputs = args.weight.n,
                  .inputs = args.weight.k,
                  .out_stride = args.out.stride(0)});
}

// Rows of both operands begin at vectors. Any other launch, and panels, which are the CPU's, are read element
// by element.
bool is_aligned(const LinearArgs& args) {
  const auto x = static_cast<int64_t>(reinterpret_cast<uintptr_t>(args.x.data)) |
                 args.x.stride(0) * static_cast<int64_t>(sizeof(float));
  const auto w = static_cast<int64_t>(reinterpret_cast<uintptr_t>(args.weight.data));
  return args.weight.layout == WeightLayout::kRowMajor && args.weight.k % kRun == 0 && (x | w) % 16 == 0;
}

}  // namespace

void linear_prepare(const LinearArgs& args, Worker worker) {
  if (!suits_library(args)) return;
  const int64_t chunks = (args.weight.k + kRoundThreads - 1) / kRoundThreads;
  launch_early(worker, round_inputs, {blocks_of(args.x.dim(0), chunks), kRoundThreads}, args);
}

// Matrix units make the sums of two to eight bf16 rows, and the library those of more, in orders of their
// own.
void linear(const LinearArgs& args, Worker worker) {
  if (suits_library(args)) return multiply_by_library(args, worker);
  const bool several = args.x.dim(0) > 1 && args.x.dim(0) <= kLinearRows;
  if (several && is_aligned(args) && args.input == MatmulInput::kBF16) return multiply_few_rows(args, worker);
  linear_by_row(args, worker);
}

// A row's sums do not depend on the rows beside it.
void linear_by_row(const LinearArgs& args, Worker worker) {
  const Grid grid{blocks_of((args.weight.n + kColumns - 1) / kColumns, (args.x.dim(0) + kRows - 1) / kRows),
                  kThreads};
  with_element(args.weight.dtype, [&]<typename W>() {
    const bool one = args.x.dim(0) == 1;
    launch_early(worker,
                 !is_aligned(args) ? multiply<false, kRows, W>
                 : one             ? multiply<true, 1, W>
                                   : multiply<true, kRows, W>,
                 grid, args);
  });
}

}  // namespace lockstep::cuda
