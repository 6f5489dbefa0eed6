// The recurrence in pairs of rows, in f32 throughout. A block holds 32 columns of one value head's state in
// registers: four columns and a sixteenth of the keys per lane, so that a number from shared memory serves
// four. Both rows of a pair meet the state before it, and what the first one changes comes to the second
// through products of keys that are made once per stage of rows:
//   m_a = k_a S, m_b = k_b S, o_a = q_a S, o_b = q_b S
//   x = beta_a (v_a - g_a m_a)                           out_a = g_a o_a + (q_a k_a) x
//   y = beta_b (v_b - g_b (g_a m_b + (k_b k_a) x))       out_b = g_b (g_a o_b + (q_b k_a) x) + (q_b k_b) y
//   S <- g_b g_a S + g_b k_a x + k_b y
// So the state is read and changed once for two rows, with no barrier between them. Pairs are counted from
// the sequence's first row of the step; a row goes alone where it is the last, or its state is kept.
#include "kernels/common/recurrent_rows.cuh"
#include "kernels/cuda_kernels.h"

namespace lockstep::cuda {
namespace {

// What a row's products are multiplied with, made once for all columns.
struct alignas(16) RowFacts {
  float decay;
  float beta;
  float key_scale;    // 1 / |k|
  float query_scale;  // 1 / |q| sqrt(Dk)
  float own;          // q k, scaled
  float key_before;   // k of this row and the one before, scaled
  float query_before;
  int32_t slot;
};

template <int Q, int kStage>
struct Shared {
  StagedRows<Q, kStage> rows[2];
  RowFacts facts[kStage];
};

// One step of scatter_sums(): 2 H values become H.
template <int H>
__device__ void halve(float (&values)[16]) {
  const bool upper = (threadIdx.x & H) != 0;
#pragma unroll
  for (int i = 0; i < H; ++i) {
    const float keep = upper ? values[H + i] : values[i], give = upper ? values[i] : values[H + i];
    values[i] = keep + __shfl_xor_sync(kAllLanes, give, H);
  }
}

// Sums over 16 lanes of 16 values each: a lane gets the sum of the value that its number among them says.
__device__ float scatter_sums(float (&values)[16]) {
  halve<8>(values);
  halve<4>(values);
  halve<2>(values);
  halve<1>(values);
  return values[0];
}

// Norms and products of the rows of a stage: a warp per row.
template <int Q, int kStage>
__device__ void multiply_rows(const StagedRows<Q, kStage>& rows, int count, float root, RowFacts* facts) {
  const int lane = threadIdx.x % kWarp;
  for (int r = threadIdx.x / kWarp; r < count; r += kRowThreads / kWarp) {
    const float* before = rows.k[r == 0 ? 0 : r - 1];
    float sums[6] = {};
#pragma unroll
    for (int d = lane; d < 64 * Q; d += kWarp) {
      const float q = rows.q[r][d], k = rows.k[r][d], b = before[d];
      sums[0] = __fmaf_rn(q, q, sums[0]);
      sums[1] = __fmaf_rn(k, k, sums[1]);
      sums[2] = __fmaf_rn(q, k, sums[2]);
      sums[3] = __fmaf_rn(b, b, sums[3]);
      sums[4] = __fmaf_rn(k, b, sums[4]);
      sums[5] = __fmaf_rn(q, b, sums[5]);
    }
#pragma unroll
    for (int i = 0; i < 6; ++i) sums[i] = warp_sum(sums[i]);
    if (lane != 0) continue;
    const float key_scale = 1.0f / __fsqrt_rn(sums[1] + 1e-6f);
    const float query_scale = 1.0f / __fsqrt_rn(sums[0] + 1e-6f) * root;
    const float before_scale = 1.0f / __fsqrt_rn(sums[3] + 1e-6f);
    facts[r].key_scale = key_scale;
    facts[r].query_scale = query_scale;
    facts[r].own = sums[2] * key_scale * query_scale;
    facts[r].key_before = sums[4] * key_scale * before_scale;
    facts[r].query_before = sums[5] * query_scale * before_scale;
  }
}

__device__ double softplus(double x) { return x > 20.0 ? x : log1p(exp(x)); }

// The gates of the rows [begin, begin + count), a lane each, and where their states go.
__device__ void open_gates(const GatedDeltaArgs& args, int64_t begin, int count, RowFacts* facts) {
  const int64_t head = blockIdx.y;
  const int r = threadIdx.x;
  if (r >= count) return;
  const int64_t t = begin + r;
  const double b = row<const float>(args.b, t)[head];
  const double a =
      double{row<const float>(args.a, t)[head]} + double{static_cast<const float*>(args.dt_bias.data)[head]};
  const double rate = exp(double{static_cast<const float*>(args.a_log.data)[head]});
  facts[r].beta = static_cast<float>(1.0 / (1.0 + exp(-b)));
  facts[r].decay = static_cast<float>(exp(-rate * softplus(a)));
  facts[r].slot = static_cast<const int32_t*>(args.state_write_slots.data)[t];
}

// A row's outputs are made by four lanes of a half warp: column `own` of the lane's four.
struct Lane {
  int own = threadIdx.x % 4;
  int base = threadIdx.x % kWarp / kStateParts * kStateParts;

  __device__ float from(float x, int number) const { return __shfl_sync(kAllLanes, x, base + number); }
};

// sums[kFirst + c] = x · column c.
template <int kFirst, int Q>
__device__ void dot(const StatePart<Q>& part, const float (&x)[4 * Q], float (&sums)[16]) {
#pragma unroll
  for (int c = 0; c < 4; ++c) sums[kFirst + c] = 0.0f;
#pragma unroll
  for (int i = 0; i < 4 * Q; ++i) {
#pragma unroll
    for (int c = 0; c < 4; ++c) sums[kFirst + c] = __fmaf_rn(x[i], part.state[i][c], sums[kFirst + c]);
  }
}

// Row r by itself: the output of the lane's own column.
template <int Q, int kStage>
__device__ float one_row(StatePart<Q>& part, const StagedRows<Q, kStage>& rows, int r, const RowFacts& a) {
  const Lane lane;
  float key[4 * Q], query[4 * Q], sums[16] = {};
  part.take(rows.k[r], key);
  part.take(rows.q[r], query);
  dot<0>(part, key, sums);
  dot<8>(part, query, sums);
  const float sum = scatter_sums(sums);
  const float memory = a.key_scale * lane.from(sum, lane.own),
              asked = a.query_scale * lane.from(sum, 8 + lane.own);
  const float change = a.beta * (rows.v[r][part.column + lane.own] - a.decay * memory);
  const float by = a.key_scale * change;
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    const float times = lane.from(by, c);
#pragma unroll
    for (int i = 0; i < 4 * Q; ++i) part.state[i][c] = __fmaf_rn(key[i], times, a.decay * part.state[i][c]);
  }
  return __fmaf_rn(a.own, change, a.decay * asked);
}

// Rows r and r + 1.
template <int Q, int kStage>
__device__ void two_rows(StatePart<Q>& part, const StagedRows<Q, kStage>& rows, int r, const RowFacts* facts,
                         float (&out)[2]) {
  const Lane lane;
  const RowFacts a = facts[r], b = facts[r + 1];
  float first[4 * Q], second[4 * Q], query[4 * Q], sums[16];
  part.take(rows.k[r], first);
  part.take(rows.k[r + 1], second);
  dot<0>(part, first, sums);
  dot<4>(part, second, sums);
  part.take(rows.q[r], query);
  dot<8>(part, query, sums);
  part.take(rows.q[r + 1], query);
  dot<12>(part, query, sums);
  const float sum = scatter_sums(sums);
  const float m_a = a.key_scale * lane.from(sum, lane.own), m_b = b.key_scale * lane.from(sum, 4 + lane.own);
  const float o_a = a.query_scale * lane.from(sum, 8 + lane.own);
  const float o_b = b.query_scale * lane.from(sum, 12 + lane.own);
  const int column = part.column + lane.own;
  const float x = a.beta * (rows.v[r][column] - a.decay * m_a);
  const float y = b.beta * (rows.v[r + 1][column] - b.decay * __fmaf_rn(b.key_before, x, a.decay * m_b));
  const float both = b.decay * a.decay, by_first = b.decay * (a.key_scale * x), by_second = b.key_scale * y;
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    const float times_first = lane.from(by_first, c), times_second = lane.from(by_second, c);
#pragma unroll
    for (int i = 0; i < 4 * Q; ++i)
      part.state[i][c] =
          __fmaf_rn(second[i], times_second, __fmaf_rn(first[i], times_first, both * part.state[i][c]));
  }
  out[0] = __fmaf_rn(a.own, x, a.decay * o_a);
  out[1] = __fmaf_rn(b.own, y, b.decay * __fmaf_rn(b.query_before, x, a.decay * o_b));
}

// `count` rows from `begin` on, which are in shared memory; `offset`: of the block's state within a slot.
template <int Q, int kStage>
__device__ void run_stage(const GatedDeltaArgs& args, int64_t begin, int count, int64_t offset,
                          StatePart<Q>& part, const StagedRows<Q, kStage>& rows, const RowFacts* facts) {
  const int64_t first = int64_t{blockIdx.z} * kStateColumns + part.column + threadIdx.x % 4;
  const bool there = static_cast<int>(threadIdx.x % 4) < part.columns;
  for (int r = 0; r < count;) {
    const bool pair = r % 2 == 0 && r + 1 < count && facts[r].slot < 0;
    float out[2] = {0.0f, 0.0f};
    if (pair) {
      two_rows(part, rows, r, facts, out);
    } else {
      out[0] = one_row(part, rows, r, facts[r]);
    }
    if (there && part.part < 4) at<float>(args.out, begin + r, blockIdx.y)[first] = out[0];
    if (there && part.part >= 4 && part.part < 8 && pair)
      at<float>(args.out, begin + r + 1, blockIdx.y)[first] = out[1];
    r += pair ? 2 : 1;
    const int32_t slot = facts[r - 1].slot;
    if (slot >= 0) part.store(row<float>(args.state, slot) + offset);
  }
}

template <int Q, int kStage>
__global__ void __launch_bounds__(kRowThreads) run_heads(const __grid_constant__ GatedDeltaArgs args) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<Shared<Q, kStage>*>(memory);
  const int64_t s = blockIdx.x, head = blockIdx.y, key_dim = dim(args.q, 2), value_dim = dim(args.v, 2);
  clear_pad_rows(args.out, live(args.num_rows, dim(args.out, 0)));
  if (s >= live(args.num_seqs, dim(args.state_read_slot, 0))) return;
  const int64_t key_head = head / (dim(args.v, 1) / dim(args.q, 1)),
                first = int64_t{blockIdx.z} * kStateColumns;
  RowSource source(args.q, key_head, args.k, key_head, args.v);
  source.from(args.v, head, first);
  if (source.keys < 64 * Q) clear_rows(shared.rows);
  const auto* starts = static_cast<const int32_t*>(args.query_start_loc.data);
  const int64_t end = starts[s + 1], offset = head * key_dim * value_dim + first;
  int64_t begin = starts[s];
  source.fetch(begin, begin + kStage < end ? begin + kStage : end, shared.rows[0]);
  StatePart<Q> part;
  part.part = threadIdx.x % kStateParts;
  part.column = threadIdx.x / kStateParts * 4;
  part.keys = source.keys;
  part.columns = source.columns - part.column;
  part.stride = value_dim;
  const bool has_state = static_cast<const int32_t*>(args.has_initial_state.data)[s] != 0;
  const int64_t slot = has_state ? static_cast<const int32_t*>(args.state_read_slot.data)[s] : 0;
  part.load(has_state ? row<const float>(args.state, slot) + offset : nullptr);
  const float root = 1.0f / __fsqrt_rn(static_cast<float>(key_dim));
  for (int now = 0; begin < end; begin += kStage, now ^= 1) {
    const int64_t next = begin + kStage, behind = next + kStage;
    const int count = static_cast<int>(next < end ? kStage : end - begin);
    source.fetch(next, behind < end ? behind : end, shared.rows[now ^ 1]);
    open_gates(args, begin, count, shared.facts);
    __pipeline_wait_prior(1);
    __syncthreads();
    multiply_rows(shared.rows[now], count, root, shared.facts);
    __syncthreads();
    run_stage(args, begin, count, offset, part, shared.rows[now], shared.facts);
    __syncthreads();  // before what is there is fetched over
  }
}

template <int Q, int kStage>
void run_with(const GatedDeltaArgs& args, const Worker& worker) {
  const int64_t sequences = args.state_read_slot.dim(0);
  const int64_t columns = (args.v.dim(2) + kStateColumns - 1) / kStateColumns;
  constexpr size_t kBytes = sizeof(Shared<Q, kStage>);
  allow_shared(worker, run_heads<Q, kStage>, kBytes);
  launch_grid(worker, run_heads<Q, kStage>,
              {blocks_of(sequences > 0 ? sequences : 1, args.v.dim(1), columns), kRowThreads, kBytes}, args);
}

// Few rows at a time leave room for more blocks; the arithmetic is the same.
template <int Q>
void run(const GatedDeltaArgs& args, const Worker& worker) {
  args.q.dim(0) <= args.state_read_slot.dim(0) ? run_with<Q, 2>(args, worker) : run_with<Q, 32>(args, worker);
}

}  // namespace

void gated_delta(const GatedDeltaArgs& args, Worker worker) {
  const int64_t keys = args.q.dim(2);
  if (keys <= 64) return run<1>(args, worker);
  if (keys <= 128) return run<2>(args, worker);
  if (keys <= 256) return run<4>(args, worker);
  static_cast<CudaQueue*>(worker.queue)->note(cudaErrorInvalidValue, "gated_delta: more than 256 keys");
}

}  // namespace lockstep::cuda
