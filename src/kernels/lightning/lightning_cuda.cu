// The recurrence row by row, whatever the lengths: a sequence's bits do not depend on where its rows are cut
// into steps. Parts of outputs join once per stage of rows, those of a single row at once, in the same order.
#include "kernels/cuda_kernels.h"
#include "kernels/lightning/lightning_chunks.cuh"

namespace lockstep::cuda {
namespace {

// One row: this thread's part of the outputs of its columns.
template <int Q>
__device__ float4 step(StatePart<Q>& part, const float* q, const float* k, const float* v, float decay) {
  float query[4 * Q], key[4 * Q], sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  part.take(q, query);
  part.take(k, key);
  const float4 four = *reinterpret_cast<const float4*>(v + part.column);
  const float value[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
  for (int i = 0; i < 4 * Q; ++i) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      part.state[i][c] = __fmaf_rn(key[i], value[c], decay * part.state[i][c]);
      sums[c] = __fmaf_rn(query[i], part.state[i][c], sums[c]);
    }
  }
  return make_float4(sums[0], sums[1], sums[2], sums[3]);
}

struct LightningOp {
  static constexpr bool kCorrects = false;
  static constexpr int kStage = 16;
  template <int kRows>
  struct Stage {
    float4 parts[kRows][kStateParts][kStateColumns / 4];
    int32_t slots[kRows];
  };

  template <int Q>
  static __device__ void part_of(StatePart<Q>& part) {
    part.part = threadIdx.x / (kStateColumns / 4);
    part.column = threadIdx.x % (kStateColumns / 4) * 4;
  }
  template <int kRows>
  static __device__ void open(const RecurrentArgs& args, int64_t begin, int count, Stage<kRows>& stage) {
    if (static_cast<int>(threadIdx.x) < count)
      stage.slots[threadIdx.x] = write_slot(args, begin + threadIdx.x);
  }
  template <int Q, int kRows>
  static __device__ void run(const RecurrentArgs& args, int64_t begin, int count, int64_t offset,
                             StatePart<Q>& part, const StagedRows<Q, kRows>& rows, Stage<kRows>& stage) {
    const float decay = args.decay[blockIdx.y];
    for (int r = 0; r < count; ++r) {
      stage.parts[r][part.part][part.column / 4] = step(part, rows.q[r], rows.k[r], rows.v[r], decay);
      if (stage.slots[r] >= 0) part.store(row<float>(args.state, stage.slots[r]) + offset);
    }
    __syncthreads();
    join(args, begin, count, stage);
  }
  // Outputs of `count` rows from `begin` on: the parts of each column in their order.
  template <int kRows>
  static __device__ void join(const RecurrentArgs& args, int64_t begin, int count,
                              const Stage<kRows>& stage) {
    const int lane = threadIdx.x % kWarp;
    const int64_t e = int64_t{blockIdx.z} * kStateColumns + lane;
    if (e >= dim(args.out, 2)) return;
    for (int r = threadIdx.x / kWarp; r < count; r += kRowThreads / kWarp) {
      float sum = 0.0f;
#pragma unroll
      for (int p = 0; p < kStateParts; ++p) sum += reinterpret_cast<const float*>(stage.parts[r][p])[lane];
      at<float>(args.out, begin + r, blockIdx.y)[e] = args.scale * sum;
    }
  }

  template <int Q, bool kWide>
  static __device__ void single(const RecurrentArgs& args, int64_t t, SingleState<Q, kWide>& state,
                                SingleRow<Q>& row) {
    const int64_t head = blockIdx.y, column = int64_t{blockIdx.x} * kSingleColumns + threadIdx.x;
    const bool mine = threadIdx.x < kSingleColumns && column < dim(args.v, 2);
    const float decay = args.decay[head];
    if (threadIdx.x < kSingleColumns)
      reinterpret_cast<float*>(row.change)[threadIdx.x] =
          mine ? at<const float>(args.v, t, head / args.value_group)[column] : 0.0f;
    __syncthreads();
    state.change(row, decay);
    row.sums[0][state.part][state.quad] = state.dot(row.q);
    __syncthreads();
    if (mine) at<float>(args.out, t, head)[column] = args.scale * joined(row, 0, threadIdx.x);
  }

  template <int D>
  static void find_chunks(const RecurrentArgs& args, int64_t chunks, const Worker& worker) {
    find_lightning_chunks<D>(args, chunks, worker);
  }
};

}  // namespace

void lightning(const LightningArgs& args, Worker worker) {
  RecurrentArgs recurrent = recurrent_args(args);
  recurrent.key_group = recurrent.value_group = args.q.dim(1) / args.k.dim(1);
  recurrent.decay = static_cast<const float*>(args.decay.data);
  recurrent.scale = args.scale;
  const ChunkShape shape{.rows = args.q.dim(0),
                         .query_heads = args.q.dim(1),
                         .key_heads = args.k.dim(1),
                         .heads = args.q.dim(1),
                         .key_dim = args.q.dim(2)};
  launch_recurrent<LightningOp>(recurrent, args, shape, worker);
}

}  // namespace lockstep::cuda
