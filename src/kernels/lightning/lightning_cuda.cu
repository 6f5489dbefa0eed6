// The recurrence row by row, whatever the lengths: a sequence's bits do not depend on where its rows are cut
// into steps. A block holds 32 columns of one head's state in registers; four warps share the rows of the
// state between them and join their parts of the outputs once per stage of rows.
#include <cuda_pipeline.h>

#include "kernels/common/device_math.cuh"
#include "kernels/cuda_kernels.h"

namespace lockstep::cuda {
namespace {

constexpr int kParts = 4;
constexpr int kThreads = kParts * kWarp;
constexpr int kStage = 16;  // rows in shared memory, while the next ones are on their way

// What all threads of a block need of some rows: N keys per thread.
template <int N>
struct Rows {
  float q[kStage][kParts * N];
  float k[kStage][kParts * N];
  float v[kStage][kWarp];
};
template <int N>
struct Shared {
  Rows<N> rows[2];
  float parts[kStage][kParts][kWarp];
};

// Elements of rows [begin, end) on their way into shared memory; what is no element there stays as it is.
template <int N>
__device__ void fetch(const LightningArgs& args, int64_t begin, int64_t end, Rows<N>& to) {
  const int64_t key_dim = dim(args.q, 2), value_dim = dim(args.v, 2), head = blockIdx.y;
  const int64_t key_head = head / (dim(args.q, 1) / dim(args.k, 1)), column = int64_t{blockIdx.z} * kWarp;
  const int lane = threadIdx.x % kWarp;
  for (int64_t t = begin + threadIdx.x / kWarp; t < end; t += kParts) {
    const float* q = at<const float>(args.q, t, head);
    const float* k = at<const float>(args.k, t, key_head);
    for (int64_t d = lane; d < key_dim; d += kWarp) {
      __pipeline_memcpy_async(&to.q[t - begin][d], q + d, sizeof(float));
      __pipeline_memcpy_async(&to.k[t - begin][d], k + d, sizeof(float));
    }
    if (column + lane < value_dim)
      __pipeline_memcpy_async(&to.v[t - begin][lane], at<const float>(args.v, t, key_head) + column + lane,
                              sizeof(float));
  }
  __pipeline_commit();
}

// A thread's rows part * N + i of its column.
template <int N>
struct Column {
  float state[N];
  int64_t keys;  // of them that there are

  __device__ void load(const float* from, int64_t stride) {
#pragma unroll
    for (int i = 0; i < N; ++i) state[i] = from != nullptr && i < keys ? from[i * stride] : 0.0f;
  }
  __device__ void store(float* to, int64_t stride) const {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (i < keys) to[i * stride] = state[i];
    }
  }
  // One row: its part of the output. Four sums, because one would wait for itself.
  __device__ float step(const float* q, const float* k, float v, float decay) {
    float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      const float4 key = *reinterpret_cast<const float4*>(k + i);
      const float4 query = *reinterpret_cast<const float4*>(q + i);
      const float keyed[4] = {key.x, key.y, key.z, key.w}, asked[4] = {query.x, query.y, query.z, query.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (i + j >= keys) continue;
        state[i + j] = __fmaf_rn(keyed[j], v, decay * state[i + j]);
        sums[j] = __fmaf_rn(asked[j], state[i + j], sums[j]);
      }
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }
};

// Zeros into the pad rows, shared out over the blocks of a head and column.
__device__ void clear_pads(const LightningArgs& args) {
  const int64_t rows = dim(args.out, 0), e = int64_t{blockIdx.z} * kWarp + threadIdx.x % kWarp;
  const int64_t first = live(args.num_rows, rows) + int64_t{blockIdx.x} * kParts + threadIdx.x / kWarp;
  if (e >= dim(args.out, 2)) return;
  for (int64_t t = first; t < rows; t += int64_t{gridDim.x} * kParts)
    at<float>(args.out, t, blockIdx.y)[e] = 0.0f;
}

// Rows [begin, end), which are in shared memory.
template <int N>
__device__ void run_stage(const LightningArgs& args, int64_t begin, int64_t end, Column<N>& column,
                          Shared<N>& shared, const Rows<N>& rows) {
  const int64_t head = blockIdx.y, value_dim = dim(args.v, 2), size = dim(args.q, 2) * value_dim;
  const int lane = threadIdx.x % kWarp, part = threadIdx.x / kWarp;
  const int64_t e = int64_t{blockIdx.z} * kWarp + lane;
  const float decay = static_cast<const float*>(args.decay.data)[head];
  for (int64_t t = begin; t < end; ++t) {
    const int r = static_cast<int>(t - begin);
    shared.parts[r][part][lane] =
        column.step(rows.q[r] + part * N, rows.k[r] + part * N, rows.v[r][lane], decay);
    const int64_t slot = static_cast<const int32_t*>(args.state_write_slots.data)[t];
    if (slot < 0 || e >= value_dim) continue;
    column.store(row<float>(args.state, slot) + head * size + part * N * value_dim + e, value_dim);
  }
  __syncthreads();
  for (int64_t t = begin + part; e < value_dim && t < end; t += kParts) {
    const auto& parts = shared.parts[t - begin];
    const float sum = ((parts[0][lane] + parts[1][lane]) + parts[2][lane]) + parts[3][lane];
    at<float>(args.out, t, head)[e] = args.scale * sum;
  }
}

template <int N>
__global__ void __launch_bounds__(kThreads) run_heads(const __grid_constant__ LightningArgs args) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<Shared<N>*>(memory);
  const int64_t s = blockIdx.x, head = blockIdx.y;
  clear_pads(args);
  if (s >= live(args.num_seqs, dim(args.state_read_slot, 0))) return;
  const auto* starts = static_cast<const int32_t*>(args.query_start_loc.data);
  const int64_t key_dim = dim(args.q, 2), value_dim = dim(args.v, 2), part = threadIdx.x / kWarp;
  const int64_t end = starts[s + 1], e = int64_t{blockIdx.z} * kWarp + threadIdx.x % kWarp;
  const int64_t left = key_dim - part * N;
  int64_t begin = starts[s];
  fetch(args, begin, begin + kStage < end ? begin + kStage : end, shared.rows[0]);
  Column<N> column;
  column.keys = left < 0 ? 0 : left < N ? left : N;
  const bool has_state = static_cast<const int32_t*>(args.has_initial_state.data)[s] != 0 && e < value_dim;
  const int64_t slot = has_state ? static_cast<const int32_t*>(args.state_read_slot.data)[s] : 0;
  const float* from =
      row<const float>(args.state, slot) + head * key_dim * value_dim + part * N * value_dim + e;
  column.load(has_state ? from : nullptr, value_dim);
  for (int now = 0; begin < end; begin += kStage, now ^= 1) {
    const int64_t next = begin + kStage, behind = next + kStage;
    fetch(args, next, behind < end ? behind : end, shared.rows[now ^ 1]);
    __pipeline_wait_prior(1);
    __syncthreads();
    run_stage(args, begin, next < end ? next : end, column, shared, shared.rows[now]);
    __syncthreads();  // before what is there is fetched over
  }
}

template <int N>
void run_with(const LightningArgs& args, const Worker& worker) {
  const int64_t sequences = args.state_read_slot.dim(0), columns = (args.v.dim(2) + kWarp - 1) / kWarp;
  allow_shared(worker, run_heads<N>, sizeof(Shared<N>));
  launch_grid(worker, run_heads<N>,
              {blocks_of(sequences > 0 ? sequences : 1, args.q.dim(1), columns), kThreads, sizeof(Shared<N>)},
              args);
}

}  // namespace

void lightning(const LightningArgs& args, Worker worker) {
  const int64_t keys = args.q.dim(2);
  if (keys <= 64) return run_with<16>(args, worker);
  if (keys <= 128) return run_with<32>(args, worker);
  if (keys <= 256) return run_with<64>(args, worker);
  static_cast<CudaQueue*>(worker.queue)->note(cudaErrorInvalidValue, "lightning: more than 256 keys");
}

}  // namespace lockstep::cuda
