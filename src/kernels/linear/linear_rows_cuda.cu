// Products of two to eight bf16 rows, which matrix units do while the weights are read once. A block gives
// all rows of 32 outputs; its warps share k, 64 at a time, and their sums join in their order. Weights are
// the 16 rows of one operand, inputs the 8 columns of the other, so that no row's sums depend on the rows
// beside it. Which k a product takes as its n-th is free as long as both sides agree: lanes load 16 bytes of
// a weight and use them as they come.
#include "kernels/common/device_math.cuh"
#include "kernels/linear/linear_rows.cuh"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kColumns = 32;  // outputs of a block
constexpr int kTiles = kColumns / 16;
constexpr int kStep = 64;  // k of a warp
constexpr int kHalves = kStep / 32;

// A lane's share of one step: 8 k from 8 * (lane % 4) on of each half, of outputs lane / 4 and 8 behind it of
// each tile.
struct Weights {
  uint4 words[kHalves][kTiles][2];
  __device__ void load(const LinearArgs& args, int64_t first_column, int64_t k) {
    const auto* weights = static_cast<const __nv_bfloat16*>(args.weight.data);
    const int lane = threadIdx.x % kWarp;
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      const int64_t at_k = k + half * 32 + lane % 4 * 8;
#pragma unroll
      for (int i = 0; i < 2 * kTiles; ++i) {
        const int64_t n = first_column + i * 8 + lane / 4;
        words[half][i / 2][i % 2] = make_uint4(0, 0, 0, 0);
        if (n < args.weight.n && at_k < args.weight.k)
          words[half][i / 2][i % 2] = *reinterpret_cast<const uint4*>(weights + n * args.weight.k + at_k);
      }
    }
  }
};

// The same k of row lane / 4, rounded.
struct Inputs {
  uint32_t words[kHalves][4];
  __device__ void load(const LinearArgs& args, int64_t rows, int64_t k) {
    const int lane = threadIdx.x % kWarp;
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      const int64_t at_k = k + half * 32 + lane % 4 * 8;
      float4 x[2] = {};
      if (lane / 4 < rows && at_k < args.weight.k) {
        const auto* from = reinterpret_cast<const float4*>(row<const float>(args.x, lane / 4) + at_k);
        x[0] = from[0], x[1] = from[1];
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const __nv_bfloat162 low = __floats2bfloat162_rn(x[i].x, x[i].y),
                             high = __floats2bfloat162_rn(x[i].z, x[i].w);
        words[half][2 * i] = *reinterpret_cast<const uint32_t*>(&low);
        words[half][2 * i + 1] = *reinterpret_cast<const uint32_t*>(&high);
      }
    }
  }
};

// c += a * b: outputs 0..7 in a.x and a.z, 8..15 in a.y and a.w.
__device__ void multiply_add(float* c, uint4 a, uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}

__device__ void add_products(const LinearArgs& args, int64_t rows, int64_t k, const Weights& weights,
                             float (*sums)[4]) {
  Inputs inputs;
  inputs.load(args, rows, k);
#pragma unroll
  for (int half = 0; half < kHalves; ++half) {
    const uint32_t* x = inputs.words[half];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const uint4 upper = weights.words[half][tile][0], lower = weights.words[half][tile][1];
      multiply_add(sums[tile], make_uint4(upper.x, lower.x, upper.y, lower.y), x[0], x[1]);
      multiply_add(sums[tile], make_uint4(upper.z, lower.z, upper.w, lower.w), x[2], x[3]);
    }
  }
}

__global__ void __launch_bounds__(kThreads, 2) multiply_rows(const __grid_constant__ LinearArgs args) {
  __shared__ float parts[kWarps][kColumns][kLinearRows + 1];
  const int64_t first_column = int64_t{blockIdx.x} * kColumns, size = args.weight.k;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  int64_t k = int64_t{warp} * kStep;
  Weights next;
  next.load(args, first_column, k);  // which no launch writes
  await_launches();
  const int64_t all = dim(args.x, 0), rows = live(args.num_rows, all);
  float sums[kTiles][4] = {};
  for (; k < size; k += kStep * kWarps) {
    const Weights now = next;
    next.load(args, first_column, k + kStep * kWarps);
    add_products(args, rows, k, now, sums);
  }
#pragma unroll
  for (int i = 0; i < 4 * kTiles; ++i)
    parts[warp][i / 4 * 16 + i / 2 % 2 * 8 + lane / 4][lane % 4 * 2 + i % 2] = sums[i / 4][i % 4];
  __syncthreads();
  const int column = threadIdx.x % kColumns, t = threadIdx.x / kColumns;
  if (t >= all || first_column + column >= args.weight.n) return;
  float sum = 0.0f;
  for (int part = 0; t < rows && part < kWarps; ++part) sum += parts[part][column][t];
  row<float>(args.out, t)[first_column + column] = sum;
}

}  // namespace

void multiply_few_rows(const LinearArgs& args, const Worker& worker) {
  static_assert(kThreads == kColumns * kLinearRows, "a thread writes one output of one row");
  launch_early(worker, multiply_rows, {blocks_of((args.weight.n + kColumns - 1) / kColumns), kThreads}, args);
}

}  // namespace lockstep::cuda
