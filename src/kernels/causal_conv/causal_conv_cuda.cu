#include "kernels/common/sequence_owner.cuh"
#include "kernels/cuda_kernels.h"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 256;

// The raw input of channel c at row t of a sequence that begins at row `begin`; rows before it are the old
// state's, or zero.
__device__ float input_at(const CausalConvArgs& args, int64_t sequence, int64_t begin, int64_t t, int64_t c) {
  if (t >= begin) return row<const float>(args.x, t)[c];
  if (static_cast<const int32_t*>(args.has_initial_state.data)[sequence] == 0) return 0.0f;
  const int64_t history = dim(args.state, 2);
  const int64_t slot = static_cast<const int32_t*>(args.state_read_slot.data)[sequence];
  return row<const float>(args.state, slot)[c * history + history - (begin - t)];
}

__global__ void __launch_bounds__(kThreads) convolve(const __grid_constant__ CausalConvArgs args) {
  const int64_t t = blockIdx.x, c = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  if (c >= dim(args.out, 1)) return;
  float* out = row<float>(args.out, t) + c;
  if (t >= live(args.num_rows, dim(args.out, 0))) {
    *out = 0.0f;
    return;
  }
  const int64_t s = owner_of(args.query_start_loc, live(args.num_seqs, dim(args.state_read_slot, 0)), t);
  if (s < 0) return;  // a row of a sequence that this launch does not have
  const int64_t begin = static_cast<const int32_t*>(args.query_start_loc.data)[s];
  const int64_t window = dim(args.weight, 1);
  const float* weight = row<const float>(args.weight, c);
  float sum = 0.0f;
  for (int64_t j = 0; j < window; ++j)
    sum = __fmaf_rn(weight[j], input_at(args, s, begin, t - (window - 1) + j, c), sum);
  *out = sum / (1.0f + expf(-sum));
}

// A channel's old state is read whole before its first new one is written: they may share a slot.
__global__ void __launch_bounds__(kThreads) write_states(const __grid_constant__ CausalConvArgs args) {
  const int64_t s = blockIdx.x, c = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  if (c >= dim(args.out, 1) || s >= live(args.num_seqs, dim(args.state_read_slot, 0))) return;
  const auto* starts = static_cast<const int32_t*>(args.query_start_loc.data);
  const int64_t begin = starts[s], end = starts[s + 1], history = dim(args.state, 2);
  float old[kMaxConvWindow];
  for (int64_t j = 0; j < history; ++j) old[j] = input_at(args, s, begin, begin - history + j, c);
  for (int64_t t = begin; t < end; ++t) {
    const int64_t slot = static_cast<const int32_t*>(args.state_write_slots.data)[t];
    if (slot < 0) continue;
    float* state = row<float>(args.state, slot) + c * history;
    for (int64_t j = 0; j < history; ++j) {
      const int64_t from = t - history + 1 + j;
      state[j] = from < begin ? old[history + (from - begin)] : row<const float>(args.x, from)[c];
    }
  }
}

int64_t chunks_of(const CausalConvArgs& args) { return (args.out.dim(1) + kThreads - 1) / kThreads; }

}  // namespace

void causal_conv(const CausalConvArgs& args, Worker worker) {
  launch_grid(worker, convolve, {blocks_of(args.out.dim(0), chunks_of(args)), kThreads}, args);
}

void causal_conv_state(const CausalConvArgs& args, Worker worker) {
  launch_grid(worker, write_states, {blocks_of(args.state_read_slot.dim(0), chunks_of(args)), kThreads},
              args);
}

}  // namespace lockstep::cuda
