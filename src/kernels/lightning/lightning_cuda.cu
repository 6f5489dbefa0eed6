// The recurrence row by row, whatever the lengths: a sequence's bits do not depend on where its rows are cut
// into steps. A block holds 32 columns of one head's state in registers: four columns and a sixteenth of the
// keys per thread, so that a number from shared memory serves four. Parts of outputs join once per stage of
// rows.
#include "kernels/common/recurrent_rows.cuh"
#include "kernels/cuda_kernels.h"

namespace lockstep::cuda {
namespace {

template <int Q, int kStage>
struct Shared {
  StagedRows<Q, kStage> rows[2];
  float4 parts[kStage][kStateParts][kStateColumns / 4];
  int32_t slots[kStage];
};

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

// Outputs of `count` rows from `begin` on: the parts of each column in their order.
template <int Q, int kStage>
__device__ void join(const LightningArgs& args, int64_t begin, int count, const Shared<Q, kStage>& shared) {
  const int lane = threadIdx.x % kWarp;
  const int64_t e = int64_t{blockIdx.z} * kStateColumns + lane;
  if (e >= dim(args.out, 2)) return;
  for (int r = threadIdx.x / kWarp; r < count; r += kRowThreads / kWarp) {
    float sum = 0.0f;
#pragma unroll
    for (int p = 0; p < kStateParts; ++p) sum += reinterpret_cast<const float*>(shared.parts[r][p])[lane];
    at<float>(args.out, begin + r, blockIdx.y)[e] = args.scale * sum;
  }
}

template <int Q, int kStage>
__global__ void __launch_bounds__(kRowThreads) run_heads(const __grid_constant__ LightningArgs args) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<Shared<Q, kStage>*>(memory);
  const int64_t s = blockIdx.x, head = blockIdx.y, key_dim = dim(args.q, 2), value_dim = dim(args.v, 2);
  clear_pad_rows(args.out, live(args.num_rows, dim(args.out, 0)));
  if (s >= live(args.num_seqs, dim(args.state_read_slot, 0))) return;
  const int64_t key_head = head / (dim(args.q, 1) / dim(args.k, 1)),
                first = int64_t{blockIdx.z} * kStateColumns;
  RowSource source(args.q, head, args.k, key_head, args.v);
  source.from(args.v, key_head, first);
  if (source.keys < 64 * Q) clear_rows(shared.rows);
  const auto* starts = static_cast<const int32_t*>(args.query_start_loc.data);
  const auto* slots = static_cast<const int32_t*>(args.state_write_slots.data);
  const int64_t end = starts[s + 1], offset = head * key_dim * value_dim + first;
  int64_t begin = starts[s];
  source.fetch(begin, begin + kStage < end ? begin + kStage : end, shared.rows[0]);
  StatePart<Q> part;
  part.part = threadIdx.x / (kStateColumns / 4);
  part.column = threadIdx.x % (kStateColumns / 4) * 4;
  part.keys = source.keys;
  part.columns = source.columns - part.column;
  part.stride = value_dim;
  const bool has_state = static_cast<const int32_t*>(args.has_initial_state.data)[s] != 0;
  const int64_t slot = has_state ? static_cast<const int32_t*>(args.state_read_slot.data)[s] : 0;
  part.load(has_state ? row<const float>(args.state, slot) + offset : nullptr);
  const float decay = static_cast<const float*>(args.decay.data)[head];
  for (int now = 0; begin < end; begin += kStage, now ^= 1) {
    const int64_t next = begin + kStage, behind = next + kStage;
    const int count = static_cast<int>(next < end ? kStage : end - begin);
    source.fetch(next, behind < end ? behind : end, shared.rows[now ^ 1]);
    if (static_cast<int>(threadIdx.x) < count) shared.slots[threadIdx.x] = slots[begin + threadIdx.x];
    __pipeline_wait_prior(1);
    __syncthreads();
    const auto& rows = shared.rows[now];
    for (int r = 0; r < count; ++r) {
      shared.parts[r][part.part][part.column / 4] = step(part, rows.q[r], rows.k[r], rows.v[r], decay);
      if (shared.slots[r] >= 0) part.store(row<float>(args.state, shared.slots[r]) + offset);
    }
    __syncthreads();
    join(args, begin, count, shared);
  }
}

template <int Q, int kStage>
void run_with(const LightningArgs& args, const Worker& worker) {
  const int64_t sequences = args.state_read_slot.dim(0);
  const int64_t columns = (args.v.dim(2) + kStateColumns - 1) / kStateColumns;
  constexpr size_t kBytes = sizeof(Shared<Q, kStage>);
  allow_shared(worker, run_heads<Q, kStage>, kBytes);
  launch_grid(worker, run_heads<Q, kStage>,
              {blocks_of(sequences > 0 ? sequences : 1, args.q.dim(1), columns), kRowThreads, kBytes}, args);
}

// Few rows at a time leave room for more blocks; the arithmetic is the same.
template <int Q>
void run(const LightningArgs& args, const Worker& worker) {
  args.q.dim(0) <= args.state_read_slot.dim(0) ? run_with<Q, 2>(args, worker) : run_with<Q, 16>(args, worker);
}

}  // namespace

void lightning(const LightningArgs& args, Worker worker) {
  const int64_t keys = args.q.dim(2);
  if (keys <= 64) return run<1>(args, worker);
  if (keys <= 128) return run<2>(args, worker);
  if (keys <= 256) return run<4>(args, worker);
  static_cast<CudaQueue*>(worker.queue)->note(cudaErrorInvalidValue, "lightning: more than 256 keys");
}

}  // namespace lockstep::cuda
