// What the rows of each chunk of the gated delta rule say to each other, for all chunks at once. With G the
// sum of log decays up to and including a row, from the chunk's first row on:
//   A_ij = beta_i e^(G_i - G_j) k_i k_j of rows j < i    solved = (I + A)^-1 - I
//   weights_ij = e^(G_i - G_j) q_i k_j of rows j <= i    in_i = e^G_i    out_i = e^(G of the last row - G_i)
// q and k are rounded to bf16 once, after they were normalised, and are those numbers everywhere.
#pragma once

#include "kernels/common/recurrent_find.cuh"
#include "kernels/common/recurrent_launch.cuh"
#include "kernels/gated_delta/gated_delta.h"

namespace lockstep::cuda {

__device__ inline float delta_beta(const RecurrentArgs& args, int64_t t, int64_t head) {
  const double b = row<const float>(args.b, t)[head];
  return static_cast<float>(1.0 / (1.0 + exp(-b)));
}
__device__ inline double delta_log_decay(const RecurrentArgs& args, int64_t t, int64_t head) {
  const double a = double{row<const float>(args.a, t)[head]} + double{args.dt_bias[head]};
  return -exp(double{args.a_log[head]}) * (a > 20.0 ? a : log1p(exp(a)));
}

inline constexpr int kHeadsAtOnce = 2;  // that share keys
inline constexpr int kSystemLine = kChunkRows + 4;

struct FindMemory {
  // Of keys with keys, and of queries with keys; before that, the rounded keys and queries themselves.
  alignas(16) float products[2][kChunkRows][kSystemLine];
  float system[kHeadsAtOnce][kChunkRows][kSystemLine];  // A, zeros from the diagonal on
  double sums[kHeadsAtOnce][kChunkRows];                // G
  float betas[kHeadsAtOnce][kChunkRows];
};
static_assert(sizeof(float) * kSystemLine >= sizeof(__nv_bfloat16) * kKeyLine<128>, "rows fit in");

// The gates of a head's rows of the chunk, in one warp, two rows a lane; rows behind its last change nothing.
__device__ inline void sum_gates(const RecurrentArgs& args, const ChunkPlace& chunk, int64_t head,
                                 double* sums, float* betas) {
  const int lane = threadIdx.x % kWarp;
  double logs[2] = {0.0, 0.0};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int r = 2 * lane + i;
    betas[r] = r < chunk.count ? delta_beta(args, chunk.begin + r, head) : 0.0f;
    if (r < chunk.count) logs[i] = delta_log_decay(args, chunk.begin + r, head);
  }
  double sum = logs[0] + logs[1];
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const double before = __shfl_up_sync(kAllLanes, sum, offset);
    if (lane >= offset) sum += before;
  }
  const double before = __shfl_up_sync(kAllLanes, sum, 1);
  const double first = lane > 0 ? before + logs[0] : logs[0], second = lane > 0 ? first + logs[1] : sum;
  sums[2 * lane] = first, sums[2 * lane + 1] = second;
  const double last = __shfl_sync(kAllLanes, second, kWarp - 1);
  auto* gates = reinterpret_cast<float4*>(args.scratch + args.at.gates) + head;
  const int64_t heads = dim(args.state, 1);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int r = 2 * lane + i;
    const double sum_of = i == 0 ? first : second;
    if (r < chunk.count)
      gates[(chunk.begin + r) * heads] = make_float4(betas[r], static_cast<float>(exp(sum_of)),
                                                     static_cast<float>(exp(last - sum_of)), 0.0f);
  }
}

__device__ inline float decay_between(const double* sums, int from, int to) {
  return expf(static_cast<float>(sums[to] - sums[from]));
}

// A of `heads` heads, by all threads.
__device__ inline void fill_systems(FindMemory& memory, int heads) {
  for (int e = threadIdx.x; e < heads * kChunkRows * kChunkRows; e += kFindThreads) {
    const int h = e / (kChunkRows * kChunkRows), i = e / kChunkRows % kChunkRows, j = e % kChunkRows;
    memory.system[h][i][j] =
        j < i ? memory.betas[h][i] * decay_between(memory.sums[h], j, i) * memory.products[0][i][j] : 0.0f;
  }
}

// The weights of a head, by half of the threads; `out`: of the chunk's first row, lines `stride` apart.
__device__ inline void write_weights(const FindMemory& memory, int h, int count, __nv_bfloat16* out,
                                     int64_t stride) {
  constexpr int kPairs = kChunkRows / 2;
  for (int e = threadIdx.x % (kFindThreads / 2); e < count * kPairs; e += kFindThreads / 2) {
    const int i = e / kPairs, j = e % kPairs * 2;
    const float2 two = *reinterpret_cast<const float2*>(&memory.products[1][i][j]);
    const float first = j <= i ? decay_between(memory.sums[h], j, i) * two.x : 0.0f,
                second = j + 1 <= i ? decay_between(memory.sums[h], j + 1, i) * two.y : 0.0f;
    *reinterpret_cast<uint32_t*>(out + i * stride + j) = packed(first, second);
  }
}

// Column `column` of (I + A)^-1 - I, row by row.
__device__ inline void solve_column(const float (*system)[kSystemLine], int column, int count,
                                    __nv_bfloat16* out, int64_t stride) {
  float solved[kChunkRows];
#pragma unroll
  for (float& x : solved) x = 0.0f;
#pragma unroll
  for (int i = 0; i < kChunkRows; ++i) {
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
    for (int j = 0; j < i; j += 4) {
      const float4 four = *reinterpret_cast<const float4*>(&system[i][j]);
      sum.x = __fmaf_rn(four.x, solved[j], sum.x);
      sum.y = __fmaf_rn(four.y, solved[j + 1], sum.y);
      sum.z = __fmaf_rn(four.z, solved[j + 2], sum.z);
      sum.w = __fmaf_rn(four.w, solved[j + 3], sum.w);
    }
    const float below = -((sum.x + sum.y) + (sum.z + sum.w));
    solved[i] = i == column ? 1.0f : below;
    if (i < count) out[i * stride] = __float2bfloat16_rn(i > column ? below : 0.0f);
  }
}

// A block per chunk and head of keys. Warps 0 to 3 multiply keys with keys and solve, warps 4 to 7 multiply
// queries with keys and weigh.
template <int D>
__global__ void __launch_bounds__(kFindThreads, 2)
    find_delta_chunk(const __grid_constant__ RecurrentArgs args) {
  extern __shared__ __align__(16) unsigned char bytes[];
  auto& memory = *reinterpret_cast<FindMemory*>(bytes);
  const ChunkPlace chunk(args, blockIdx.x);
  if (chunk.count == 0) return;
  const int64_t key_head = blockIdx.y, group = args.key_group, stride = dim(args.state, 1) * kChunkRows;
  using Lines = __nv_bfloat16(*)[kKeyLine<D>];
  const Lines keys = reinterpret_cast<Lines>(memory.products[0]),
              queries = reinterpret_cast<Lines>(memory.products[1]);
  round_rows<D, true>(args.q, key_head, chunk, 1.0f / __fsqrt_rn(static_cast<float>(D)), queries,
                      reinterpret_cast<__nv_bfloat16*>(args.scratch + args.at.query), gridDim.y);
  round_rows<D, true>(args.k, key_head, chunk, 1.0f, keys,
                      reinterpret_cast<__nv_bfloat16*>(args.scratch + args.at.key), gridDim.y);
  __syncthreads();
  const int warp = threadIdx.x / kWarp, row = warp % 4 * 16;
  const bool of_keys = warp < 4;
  TileSums sums[8];
  multiply_rows_below<D>(of_keys ? keys : queries, keys, row, sums);
  __syncthreads();
  for_sums(sums, row, [&](int i, int j, float first, float second) {
    *reinterpret_cast<float2*>(&memory.products[of_keys ? 0 : 1][i][j]) = make_float2(first, second);
  });
  for (int64_t first = 0; first < group; first += kHeadsAtOnce) {
    const int heads = static_cast<int>(group - first < kHeadsAtOnce ? group - first : kHeadsAtOnce);
    const int64_t head = key_head * group + first, line = chunk.begin * stride + head * kChunkRows;
    if (warp < heads) sum_gates(args, chunk, head + warp, memory.sums[warp], memory.betas[warp]);
    __syncthreads();
    fill_systems(memory, heads);
    __syncthreads();
    if (of_keys) {
      auto* solved = reinterpret_cast<__nv_bfloat16*>(args.scratch + args.at.solved) + line;
      const int h = threadIdx.x / kChunkRows, column = threadIdx.x % kChunkRows;
      if (h < heads)
        solve_column(memory.system[h], column, chunk.count, solved + h * kChunkRows + column, stride);
    } else {
      auto* weights = reinterpret_cast<__nv_bfloat16*>(args.scratch + args.at.weights) + line;
      for (int h = 0; h < heads; ++h) write_weights(memory, h, chunk.count, weights + h * kChunkRows, stride);
    }
    __syncthreads();  // before what is there is written over
  }
}

template <int D>
void find_delta_chunks(const RecurrentArgs& args, int64_t chunks, const Worker& worker) {
  constexpr size_t kBytes = sizeof(FindMemory);
  allow_shared(worker, find_delta_chunk<D>, kBytes);
  launch_grid(worker, find_delta_chunk<D>, {blocks_of(chunks, args.q.dim(1)), kFindThreads, kBytes}, args);
}

}  // namespace lockstep::cuda
