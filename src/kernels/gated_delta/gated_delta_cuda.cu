// The recurrence row by row, whatever the lengths. A block holds 32 columns of one value head's state in
// registers: four warps share the rows of the state between them.
#include "kernels/common/device_math.cuh"
#include "kernels/cuda_kernels.h"

namespace lockstep::cuda {
namespace {

constexpr int kParts = 4;
constexpr int kThreads = kParts * kWarp;
constexpr int kMostKeys = 256;

// What all threads of a block need of one row.
struct RowInputs {
  float q[kMostKeys];
  float k[kMostKeys];
  float decay;
  float beta;
  float parts[kParts][kWarp];
};

__device__ double softplus(double x) { return x > 20.0 ? x : log1p(exp(x)); }

// Normalised queries and keys, and the gates, of row t: one warp each.
__device__ void load_row(const GatedDeltaArgs& args, int64_t t, int64_t value_head, RowInputs& inputs) {
  const int64_t key_dim = dim(args.q, 2), key_head = value_head / (dim(args.v, 1) / dim(args.q, 1));
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  if (warp < 2) {
    const float* from = at<const float>(warp == 0 ? args.q : args.k, t, key_head);
    float* to = warp == 0 ? inputs.q : inputs.k;
    float squares = 0.0f;
    for (int64_t d = lane; d < key_dim; d += kWarp) squares = __fmaf_rn(from[d], from[d], squares);
    float scale = 1.0f / __fsqrt_rn(warp_sum(squares) + 1e-6f);
    if (warp == 0) scale = scale / __fsqrt_rn(static_cast<float>(key_dim));
    for (int64_t d = lane; d < key_dim; d += kWarp) to[d] = from[d] * scale;
  } else if (warp == 2 && lane == 0) {
    const double b = row<const float>(args.b, t)[value_head];
    const double a = double{row<const float>(args.a, t)[value_head]} +
                     double{static_cast<const float*>(args.dt_bias.data)[value_head]};
    const double rate = exp(double{static_cast<const float*>(args.a_log.data)[value_head]});
    inputs.beta = static_cast<float>(1.0 / (1.0 + exp(-b)));
    inputs.decay = static_cast<float>(exp(-rate * softplus(a)));
  }
  __syncthreads();
}

// The sum of the parts of each column, in the parts' order. Ends behind a barrier that the next one needs.
__device__ float join_parts(float part, RowInputs& inputs) {
  const int lane = threadIdx.x % kWarp;
  inputs.parts[threadIdx.x / kWarp][lane] = part;
  __syncthreads();
  float sum = 0.0f;
  for (int i = 0; i < kParts; ++i) sum += inputs.parts[i][lane];
  __syncthreads();
  return sum;
}

template <int N>
__global__ void __launch_bounds__(kThreads) run_heads(const __grid_constant__ GatedDeltaArgs args) {
  __shared__ RowInputs inputs;
  const int64_t s = blockIdx.x, head = blockIdx.y;
  if (s >= live(args.num_seqs, dim(args.state_read_slot, 0))) return;
  const int64_t key_dim = dim(args.q, 2), value_dim = dim(args.v, 2), part = threadIdx.x / kWarp;
  const int64_t e = int64_t{blockIdx.z} * kWarp + threadIdx.x % kWarp;
  const bool there = e < value_dim;
  const auto* starts = static_cast<const int32_t*>(args.query_start_loc.data);
  const int64_t size = key_dim * value_dim;
  float state[N];
  const bool has_state = static_cast<const int32_t*>(args.has_initial_state.data)[s] != 0;
  const float* from =
      row<const float>(args.state,
                       has_state ? static_cast<const int32_t*>(args.state_read_slot.data)[s] : 0) +
      head * size + e;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const int64_t d = part + kParts * i;
    state[i] = has_state && there && d < key_dim ? from[d * value_dim] : 0.0f;
  }
  for (int64_t t = starts[s]; t < starts[s + 1]; ++t) {
    load_row(args, t, head, inputs);
    float memory = 0.0f, sum = 0.0f;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const int64_t d = part + kParts * i;
      state[i] *= inputs.decay;
      if (d < key_dim) memory = __fmaf_rn(state[i], inputs.k[d], memory);
    }
    memory = join_parts(memory, inputs);
    const float value = there ? at<const float>(args.v, t, head)[e] : 0.0f;
    const float delta = inputs.beta * (value - memory);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const int64_t d = part + kParts * i;
      if (d >= key_dim) continue;
      state[i] = __fmaf_rn(inputs.k[d], delta, state[i]);
      sum = __fmaf_rn(state[i], inputs.q[d], sum);
    }
    sum = join_parts(sum, inputs);
    if (there && part == 0) at<float>(args.out, t, head)[e] = sum;
    const int64_t slot = static_cast<const int32_t*>(args.state_write_slots.data)[t];
    if (slot < 0 || !there) continue;
    float* to = row<float>(args.state, slot) + head * size + e;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const int64_t d = part + kParts * i;
      if (d < key_dim) to[d * value_dim] = state[i];
    }
  }
}

__global__ void __launch_bounds__(kThreads) clear_pads(const __grid_constant__ GatedDeltaArgs args) {
  const int64_t t = blockIdx.x, h = blockIdx.y;
  if (t < live(args.num_rows, dim(args.out, 0))) return;
  for (int64_t e = threadIdx.x; e < dim(args.out, 2); e += kThreads) at<float>(args.out, t, h)[e] = 0.0f;
}

}  // namespace

void gated_delta(const GatedDeltaArgs& args, Worker worker) {
  const int64_t heads = args.v.dim(1), columns = (args.v.dim(2) + kWarp - 1) / kWarp;
  const Grid grid{blocks_of(args.state_read_slot.dim(0), heads, columns), kThreads};
  const int64_t keys = args.q.dim(2);
  if (keys > kMostKeys) {
    static_cast<CudaQueue*>(worker.queue)->note(cudaErrorInvalidValue, "gated_delta: more than 256 keys");
  } else {
    launch_grid(worker,
                keys <= kMostKeys / 2 ? run_heads<kMostKeys / 2 / kParts> : run_heads<kMostKeys / kParts>,
                grid, args);
  }
  launch_grid(worker, clear_pads, {blocks_of(args.out.dim(0), heads), kThreads}, args);
}

}  // namespace lockstep::cuda
