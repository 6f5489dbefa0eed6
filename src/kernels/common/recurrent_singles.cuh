// Sequences of one row: each state is read once and written once, and little else happens. A block holds 64
// columns of a head's state in registers, four columns and a sixteenth of the keys per thread, so that a warp
// reads two rows of 256 bytes at a time. Whatever else a row needs is computed while they are on their way.
#pragma once

#include "kernels/common/recurrent.cuh"

namespace lockstep::cuda {

inline constexpr int kSingleColumns = 64;
inline constexpr int kSingleParts = 16;  // threads that share four columns
inline constexpr int kSingleThreads = kSingleColumns / 4 * kSingleParts;

// One row of a head, zeros behind its keys; and sums over the keys of each part.
template <int Q>
struct SingleRow {
  float4 q[16 * Q];
  float4 k[16 * Q];
  float4 sums[2][kSingleParts][kSingleColumns / 4];
  float4 change[kSingleColumns / 4];  // what a column gains per unit of key
  float facts[8];                     // the op's own
};

// A thread's part of the state: rows 4 (part + 16 i) + j, four columns from `column` of the head on.
template <int Q, bool kWide>
struct SingleState {
  float4 rows[Q][4];
  int part = threadIdx.x / (kSingleColumns / 4);
  int quad = threadIdx.x % (kSingleColumns / 4);
  int keys;
  int columns;  // of the four that there are
  int64_t stride;
  int64_t offset;  // of its first element within the head

  __device__ SingleState(const RecurrentArgs& args) {
    keys = static_cast<int>(dim(args.state, 2));
    stride = dim(args.state, 3);
    const int64_t column = int64_t{blockIdx.x} * kSingleColumns + quad * 4;
    columns = static_cast<int>(stride - column < 4 ? stride - column : 4);
    offset = 4 * part * stride + column;
  }
  __device__ bool there(int i, int j) const {
    return columns > 0 && 4 * (part + kSingleParts * i) + j < keys;
  }

  // `from`: the head; null: zeros.
  __device__ void load(const float* from) {
#pragma unroll
    for (int i = 0; i < Q; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        rows[i][j] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (from == nullptr || !there(i, j)) continue;
        const float* at = from + offset + (4 * kSingleParts * i + j) * stride;
        if constexpr (kWide) {
          rows[i][j] = __ldcs(reinterpret_cast<const float4*>(at));
        } else {
          rows[i][j].x = at[0];
          if (columns > 1) rows[i][j].y = at[1];
          if (columns > 2) rows[i][j].z = at[2];
          if (columns > 3) rows[i][j].w = at[3];
        }
      }
    }
  }
  __device__ void store(float* to) const {
#pragma unroll
    for (int i = 0; i < Q; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (!there(i, j)) continue;
        float* at = to + offset + (4 * kSingleParts * i + j) * stride;
        if constexpr (kWide) {
          __stcs(reinterpret_cast<float4*>(at), rows[i][j]);
        } else {
          at[0] = rows[i][j].x;
          if (columns > 1) at[1] = rows[i][j].y;
          if (columns > 2) at[2] = rows[i][j].z;
          if (columns > 3) at[3] = rows[i][j].w;
        }
      }
    }
  }
  // S <- decay S + k changeᵀ
  __device__ void change(const SingleRow<Q>& row, float decay) {
    const float4 by = row.change[quad];
#pragma unroll
    for (int i = 0; i < Q; ++i) {
      const float4 four = row.k[part + kSingleParts * i];
      const float key[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        float4& s = rows[i][j];
        s.x = __fmaf_rn(key[j], by.x, decay * s.x);
        s.y = __fmaf_rn(key[j], by.y, decay * s.y);
        s.z = __fmaf_rn(key[j], by.z, decay * s.z);
        s.w = __fmaf_rn(key[j], by.w, decay * s.w);
      }
    }
  }
  // This part's sum of x · column, for its columns; `x` is the row's q or k.
  __device__ float4 dot(const float4* x) const {
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll
    for (int i = 0; i < Q; ++i) {
      const float4 four = x[part + kSingleParts * i];
      const float with[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float4& s = rows[i][j];
        sum.x = __fmaf_rn(with[j], s.x, sum.x);
        sum.y = __fmaf_rn(with[j], s.y, sum.y);
        sum.z = __fmaf_rn(with[j], s.z, sum.z);
        sum.w = __fmaf_rn(with[j], s.w, sum.w);
      }
    }
    return sum;
  }
};

// Column `column` of a block: the sums of its parts, in their order.
template <int Q>
__device__ float joined(const SingleRow<Q>& row, int which, int column) {
  float sum = 0.0f;
#pragma unroll
  for (int p = 0; p < kSingleParts; ++p) sum += reinterpret_cast<const float*>(row.sums[which][p])[column];
  return sum;
}

template <int Q>
__device__ void load_single(const RecurrentArgs& args, int64_t t, int64_t head, SingleRow<Q>& to) {
  const float* q = at<const float>(args.q, t, head / args.query_group);
  const float* k = at<const float>(args.k, t, head / args.key_group);
  const int keys = static_cast<int>(dim(args.q, 2));
  for (int d = threadIdx.x; d < 64 * Q; d += kSingleThreads) {
    reinterpret_cast<float*>(to.q)[d] = d < keys ? q[d] : 0.0f;
    reinterpret_cast<float*>(to.k)[d] = d < keys ? k[d] : 0.0f;
  }
}

// Zeros into the pad rows of out, shared out over the blocks of a head and its columns.
__device__ inline void clear_pad_rows(const RecurrentArgs& args) {
  const int64_t rows = dim(args.out, 0),
                e = int64_t{blockIdx.x} * kSingleColumns + threadIdx.x % kSingleColumns;
  constexpr int kAtOnce = kSingleThreads / kSingleColumns;
  if (e >= dim(args.out, 2)) return;
  for (int64_t t = live(args.num_rows, rows) + int64_t{blockIdx.z} * kAtOnce + threadIdx.x / kSingleColumns;
       t < rows; t += int64_t{gridDim.z} * kAtOnce)
    at<float>(args.out, t, blockIdx.y)[e] = 0.0f;
}

// A block per 64 columns of a head of a sequence. Op::single(args, t, state, row) computes the row from the
// state, changes it, and writes the block's columns of out; the row's q and k are about to be in shared
// memory, behind a barrier that is Op's to pass.
template <typename Op, int Q, bool kWide>
__global__ void __launch_bounds__(kSingleThreads, Q <= 2 ? 4 : 2)
    run_singles(const __grid_constant__ RecurrentArgs args) {
  __shared__ SingleRow<Q> row_of;
  await_launches();
  const int64_t head = blockIdx.y;
  const Sequence sequence(args, blockIdx.z);
  clear_pad_rows(args);
  if (sequence.rows() != 1) return;
  const int64_t t = sequence.begin, offset = head_offset(args, head);
  SingleState<Q, kWide> state(args);
  state.load(sequence.read_slot >= 0 ? row<const float>(args.state, sequence.read_slot) + offset : nullptr);
  const int32_t slot = write_slot(args, t);
  load_single(args, t, head, row_of);
  Op::single(args, t, state, row_of);
  if (slot >= 0) state.store(row<float>(args.state, slot) + offset);
}

template <typename Op, int Q>
void launch_singles(const RecurrentArgs& args, const Worker& worker) {
  const int64_t sequences = args.state_read_slot.dim(0);
  const int64_t columns = (args.v.dim(2) + kSingleColumns - 1) / kSingleColumns;
  const Grid grid{blocks_of(columns, args.state.dim(1), sequences > 0 ? sequences : 1), kSingleThreads};
  const bool wide = args.state.dim(3) % 4 == 0 && args.state.strides[0] % 4 == 0 &&
                    reinterpret_cast<uintptr_t>(args.state.data) % 16 == 0;
  if (wide) {
    launch_early(worker, run_singles<Op, Q, true>, grid, args);
  } else {
    launch_early(worker, run_singles<Op, Q, false>, grid, args);
  }
}

}  // namespace lockstep::cuda
