// The recurrence in pairs of rows, in f32 throughout. Both rows of a pair meet the state before it, and what
// the first one changes comes to the second through products of keys that are made once per stage of rows:
//   m_a = k_a S, m_b = k_b S, o_a = q_a S, o_b = q_b S
//   x = beta_a (v_a - g_a m_a)                           out_a = g_a o_a + (q_a k_a) x
//   y = beta_b (v_b - g_b (g_a m_b + (k_b k_a) x))       out_b = g_b (g_a o_b + (q_b k_a) x) + (q_b k_b) y
//   S <- g_b g_a S + g_b k_a x + k_b y
// So the state is read and changed once for two rows, with no barrier between them. Pairs are counted from
// the sequence's first row of the step; a row goes alone where it is the last, or its state is kept.
#include "kernels/cuda_kernels.h"
#include "kernels/gated_delta/delta_chunks.cuh"

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

// The gates of the rows [begin, begin + count), a lane each, and where their states go.
__device__ void open_gates(const RecurrentArgs& args, int64_t begin, int count, RowFacts* facts) {
  const int r = threadIdx.x;
  if (r >= count) return;
  facts[r].beta = delta_beta(args, begin + r, blockIdx.y);
  facts[r].decay = static_cast<float>(exp(delta_log_decay(args, begin + r, blockIdx.y)));
  facts[r].slot = write_slot(args, begin + r);
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
__device__ void run_stage(const RecurrentArgs& args, int64_t begin, int count, int64_t offset,
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

// Norms and the product of q and k of a single row, in one warp.
template <int Q>
__device__ void multiply_single(SingleRow<Q>& row, float root) {
  const int lane = threadIdx.x % kWarp;
  float sums[3] = {};
#pragma unroll
  for (int d = lane; d < 64 * Q; d += kWarp) {
    const float q = reinterpret_cast<const float*>(row.q)[d], k = reinterpret_cast<const float*>(row.k)[d];
    sums[0] = __fmaf_rn(q, q, sums[0]);
    sums[1] = __fmaf_rn(k, k, sums[1]);
    sums[2] = __fmaf_rn(q, k, sums[2]);
  }
#pragma unroll
  for (int i = 0; i < 3; ++i) sums[i] = warp_sum(sums[i]);
  const float query_scale = 1.0f / __fsqrt_rn(sums[0] + 1e-6f) * root,
              key_scale = 1.0f / __fsqrt_rn(sums[1] + 1e-6f);
  if (lane == 0) row.facts[2] = query_scale;
  if (lane == 1) row.facts[3] = key_scale;
  if (lane == 2) row.facts[4] = sums[2] * key_scale * query_scale;
}

struct DeltaOp {
  static constexpr bool kCorrects = true;
  static constexpr int kStage = 32;
  template <int kRows>
  struct Stage {
    RowFacts facts[kRows];
  };

  template <int Q>
  static __device__ void part_of(StatePart<Q>& part) {
    part.part = threadIdx.x % kStateParts;
    part.column = threadIdx.x / kStateParts * 4;
  }
  template <int kRows>
  static __device__ void open(const RecurrentArgs& args, int64_t begin, int count, Stage<kRows>& stage) {
    open_gates(args, begin, count, stage.facts);
  }
  template <int Q, int kRows>
  static __device__ void run(const RecurrentArgs& args, int64_t begin, int count, int64_t offset,
                             StatePart<Q>& part, const StagedRows<Q, kRows>& rows, Stage<kRows>& stage) {
    const float root = 1.0f / __fsqrt_rn(static_cast<float>(part.keys));
    multiply_rows(rows, count, root, stage.facts);
    __syncthreads();
    run_stage(args, begin, count, offset, part, rows, stage.facts);
  }

  // Facts: decay, beta, 1 / |q| sqrt(Dk), 1 / |k|, q k, found by three warps.
  template <int Q, bool kWide>
  static __device__ void single(const RecurrentArgs& args, int64_t t, SingleState<Q, kWide>& state,
                                SingleRow<Q>& row) {
    const int64_t head = blockIdx.y, column = int64_t{blockIdx.x} * kSingleColumns + threadIdx.x;
    const bool mine = threadIdx.x < kSingleColumns && column < dim(args.v, 2);
    const float value = mine ? at<const float>(args.v, t, head)[column] : 0.0f;
    if (threadIdx.x == 1 * kWarp) row.facts[0] = static_cast<float>(exp(delta_log_decay(args, t, head)));
    if (threadIdx.x == 2 * kWarp) row.facts[1] = delta_beta(args, t, head);
    __syncthreads();
    if (threadIdx.x / kWarp == 3) multiply_single(row, 1.0f / __fsqrt_rn(static_cast<float>(state.keys)));
    row.sums[0][state.part][state.quad] = state.dot(row.k);
    row.sums[1][state.part][state.quad] = state.dot(row.q);
    __syncthreads();
    if (threadIdx.x < kSingleColumns) {
      const float decay = row.facts[0], beta = row.facts[1], query_scale = row.facts[2],
                  key_scale = row.facts[3], own = row.facts[4];
      const float memory = key_scale * joined(row, 0, threadIdx.x),
                  asked = query_scale * joined(row, 1, threadIdx.x);
      const float change = beta * (value - decay * memory);
      if (mine) at<float>(args.out, t, head)[column] = __fmaf_rn(own, change, decay * asked);
      reinterpret_cast<float*>(row.change)[threadIdx.x] = key_scale * change;
    }
    __syncthreads();
    state.change(row, row.facts[0]);
  }

  template <int D>
  static void find_chunks(const RecurrentArgs& args, int64_t chunks, const Worker& worker) {
    find_delta_chunks<D>(args, chunks, worker);
  }
};

}  // namespace

void gated_delta(const GatedDeltaArgs& args, Worker worker) {
  RecurrentArgs recurrent = recurrent_args(args);
  recurrent.query_group = recurrent.key_group = args.v.dim(1) / args.q.dim(1);
  recurrent.b = args.b, recurrent.a = args.a;
  recurrent.a_log = static_cast<const float*>(args.a_log.data);
  recurrent.dt_bias = static_cast<const float*>(args.dt_bias.data);
  const ChunkShape shape{.rows = args.q.dim(0),
                         .query_heads = args.q.dim(1),
                         .key_heads = args.k.dim(1),
                         .heads = args.v.dim(1),
                         .key_dim = args.q.dim(2)};
  launch_recurrent<DeltaOp>(recurrent, args, shape, worker);
}

}  // namespace lockstep::cuda
