// What the rows of each chunk of the gated delta rule say to each other, for all chunks at once. With G the
// sum of log decays up to and including a row, from the chunk's first row on:
//   A_ij = beta_i e^(G_i - G_j) k_i k_j of rows j < i    solved = (I + A)^-1 - I
//   weights_ij = e^(G_i - G_j) q_i k_j of rows j <= i    in_i = e^G_i    out_i = e^(G of the last row - G_i)
// q and k are rounded to bf16 once, after they were normalised, and are those numbers everywhere. (I + A)^-1
// is found in blocks: those of 16 rows on the diagonal row by row, then, from two neighbours T and U on the
// diagonal and A between them, what lies between them, -U A T.
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
    betas[r] = 0.0f;
    if (r >= chunk.count) continue;
    const int64_t t = chunk.begin + r;
    const float x = row<const float>(args.a, t)[head] + args.dt_bias[head];
    betas[r] = 1.0f / (1.0f + expf(-row<const float>(args.b, t)[head]));
    logs[i] = -expf(args.a_log[head]) * (x > 20.0f ? x : log1pf(expf(x)));
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
      gates[(chunk.begin + r) * heads] = make_float4(betas[r], expf(static_cast<float>(sum_of)),
                                                     expf(static_cast<float>(last - sum_of)), 0.0f);
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

// Turns a block of 16 rows on the diagonal into its inverse, a lane per column.
__device__ inline void invert_block(float (*system)[kSystemLine], int block, int column) {
  float solved[16];
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    float sum = 0.0f;
#pragma unroll
    for (int j = 0; j < i; ++j) sum = __fmaf_rn(system[16 * block + i][16 * block + j], solved[j], sum);
    solved[i] = i == column ? 1.0f : -sum;
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < 16; ++i) system[16 * block + i][16 * block + column] = solved[i];
}

// Operands of f32, each as a bf16 number and what rounding has left: products are as exact as 16 bits.
template <int kWords>
struct Split {
  uint32_t high[kWords], rest[kWords];
  __device__ void set(int word, float first, float second) {
    const uint32_t two = packed(first, second);
    const auto rounded = *reinterpret_cast<const __nv_bfloat162*>(&two);
    high[word] = two;
    rest[word] = packed(first - __bfloat162float(rounded.x), second - __bfloat162float(rounded.y));
  }
};
__device__ inline Split<4> split_left(const float (*system)[kSystemLine], int row, int column) {
  const int lane = threadIdx.x % kWarp;
  Split<4> out;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float* at = &system[row + lane / 4 + i % 2 * 8][column + lane % 4 * 2 + i / 2 * 8];
    out.set(i, at[0], at[1]);
  }
  return out;
}
__device__ inline Split<4> split_sums(const TileSums& first, const TileSums& second) {
  Split<4> out;
  out.set(0, first.c[0], first.c[1]), out.set(1, first.c[2], first.c[3]);
  out.set(2, second.c[0], second.c[1]), out.set(3, second.c[2], second.c[3]);
  return out;
}
__device__ inline Split<2> split_right(const float (*system)[kSystemLine], int row, int column) {
  const int lane = threadIdx.x % kWarp;
  Split<2> out;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int k = row + lane % 4 * 2 + i * 8, n = column + lane / 4;
    out.set(i, system[k][n], system[k + 1][n]);
  }
  return out;
}
__device__ inline void multiply_split(TileSums& sums, const Split<4>& left, const Split<2>& right) {
  multiply_tile(sums, left.rest, right.high[0], right.high[1]);
  multiply_tile(sums, left.high, right.rest[0], right.rest[1]);
  multiply_tile(sums, left.high, right.high[0], right.high[1]);
}

// Rows [row, row + 16) of -U A T: T stands at `base` on the diagonal, U kSize behind it, A below T. A warp.
template <int kSize>
__device__ void join_blocks(const float (*system)[kSystemLine], int base, int row,
                            TileSums (&sums)[kSize / 8]) {
  TileSums left[kSize / 8];
#pragma unroll
  for (int k = 0; k < kSize; k += 16) {
    const Split<4> a = split_left(system, base + kSize + row, base + kSize + k);
#pragma unroll
    for (int n = 0; n < kSize / 8; ++n)
      multiply_split(left[n], a, split_right(system, base + kSize + k, base + 8 * n));
  }
#pragma unroll
  for (int k = 0; k < kSize; k += 16) {
    const Split<4> a = split_sums(left[k / 8], left[k / 8 + 1]);
#pragma unroll
    for (int n = 0; n < kSize / 8; ++n)
      multiply_split(sums[n], a, split_right(system, base + k, base + 8 * n));
  }
}
template <int kSize>
__device__ void keep_joined(float (*system)[kSystemLine], int base, int row,
                            const TileSums (&sums)[kSize / 8]) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int n = 0; n < kSize / 8; ++n) {
    float* to = &system[base + kSize + row + lane / 4][base + 8 * n + lane % 4 * 2];
    to[0] = -sums[n].c[0], to[1] = -sums[n].c[1];
    to[8 * kSystemLine] = -sums[n].c[2], to[8 * kSystemLine + 1] = -sums[n].c[3];
  }
}

// (I + A)^-1 - I of `heads` heads, of A in shared memory; the other half of the threads weighs meanwhile.
// `weights` and `solved`: of the chunk's first row and the first head, lines `stride` apart.
__device__ inline void solve_and_weigh(FindMemory& memory, int heads, int count, __nv_bfloat16* weights,
                                       __nv_bfloat16* solved, int64_t stride) {
  const int thread = threadIdx.x, warp = thread / kWarp, h = warp / 2;
  const bool solves = warp < 4 && h < heads, weighs = warp >= 4;
  if (solves) invert_block(memory.system[h], thread % 64 / 16, thread % 16);
  if (weighs) write_weights(memory, 0, count, weights, stride);
  __syncthreads();
  if (solves) {
    TileSums sums[2];
    join_blocks<16>(memory.system[h], warp % 2 * 32, 0, sums);
    __syncwarp();
    keep_joined<16>(memory.system[h], warp % 2 * 32, 0, sums);
  }
  if (weighs && heads > 1) write_weights(memory, 1, count, weights + kChunkRows, stride);
  __syncthreads();
  TileSums sums[4];
  if (solves) join_blocks<32>(memory.system[h], 0, warp % 2 * 16, sums);
  __syncthreads();
  if (solves) keep_joined<32>(memory.system[h], 0, warp % 2 * 16, sums);
  __syncthreads();
  constexpr int kPairs = kChunkRows / 2;
  for (int e = thread; e < heads * count * kPairs; e += kFindThreads) {
    const int of = e / (count * kPairs), i = e / kPairs % count, j = e % kPairs * 2;
    const float* from = &memory.system[of][i][j];
    *reinterpret_cast<uint32_t*>(solved + of * kChunkRows + i * stride + j) =
        packed(j < i ? from[0] : 0.0f, j + 1 < i ? from[1] : 0.0f);
  }
}

// A block per chunk and head of keys. Warps 0 to 3 multiply keys with keys, warps 4 to 7 queries with keys.
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
    solve_and_weigh(memory, heads, chunk.count,
                    reinterpret_cast<__nv_bfloat16*>(args.scratch + args.at.weights) + line,
                    reinterpret_cast<__nv_bfloat16*>(args.scratch + args.at.solved) + line, stride);
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
