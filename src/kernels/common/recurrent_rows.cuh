// Sequences of several rows, row by row and in f32 throughout: a block holds 32 columns of a head's state in
// registers, four columns and a sixteenth of the keys per thread, so that a number from shared memory serves
// four, while the rows of the next stage are on their way.
#pragma once

#include <cuda_pipeline.h>

#include "kernels/common/recurrent.cuh"

namespace lockstep::cuda {

inline constexpr int kStateColumns = 32;  // of a head's state, in a block
inline constexpr int kStateParts = 16;    // threads that share four columns
inline constexpr int kRowThreads = kStateColumns / 4 * kStateParts;

// Rows of one head: 64 Q keys, and the columns of a block.
template <int Q, int kStage>
struct alignas(16) StagedRows {
  float q[kStage][64 * Q];
  float k[kStage][64 * Q];
  float v[kStage][kStateColumns];
};

// Where the rows of a head lie.
struct RowSource {
  const float* q;
  const float* k;
  const float* v;
  int64_t strides[3];  // from row to row
  int keys;
  int columns;  // of the block's that there are
  bool wide;    // whether all of it comes in vectors of four

  __device__ RowSource(const TensorView& queries, int64_t query_head, const TensorView& keyed,
                       int64_t key_head, const TensorView& values)
      : q(static_cast<const float*>(queries.data) + query_head * queries.strides[1]),
        k(static_cast<const float*>(keyed.data) + key_head * keyed.strides[1]),
        v(static_cast<const float*>(values.data)),
        strides{queries.strides[0], keyed.strides[0], values.strides[0]},
        keys(static_cast<int>(dim(queries, 2))) {}

  // The values of `head`, from `column` on.
  __device__ void from(const TensorView& values, int64_t head, int64_t column) {
    v += head * values.strides[1] + column;
    const int64_t left = dim(values, 2) - column;
    columns = static_cast<int>(left < kStateColumns ? left : kStateColumns);
    const auto addresses =
        reinterpret_cast<uintptr_t>(q) | reinterpret_cast<uintptr_t>(k) | reinterpret_cast<uintptr_t>(v);
    wide = addresses % 16 == 0 && (strides[0] | strides[1] | strides[2] | keys | columns) % 4 == 0;
  }

  // Rows [begin, end) on their way; what is no element there stays as it is. One commit.
  template <int Q, int kStage>
  __device__ void fetch(int64_t begin, int64_t end, StagedRows<Q, kStage>& to) const {
    const int lane = threadIdx.x % kWarp, step = wide ? 4 : 1;
    for (int64_t t = begin + threadIdx.x / kWarp; t < end; t += kRowThreads / kWarp) {
      const int64_t r = t - begin;
      for (int d = lane * step; d < keys; d += kWarp * step) {
        copy(&to.q[r][d], q + t * strides[0] + d);
        copy(&to.k[r][d], k + t * strides[1] + d);
      }
      if (lane * step < columns) copy(&to.v[r][lane * step], v + t * strides[2] + lane * step);
    }
    __pipeline_commit();
  }

 private:
  __device__ void copy(float* to, const float* from) const {
    if (wide) {
      __pipeline_memcpy_async(to, from, 16);
    } else {
      __pipeline_memcpy_async(to, from, 4);
    }
  }
};

// Zeros where no row of a head with fewer keys reaches.
template <int Q, int kStage>
__device__ void clear_rows(StagedRows<Q, kStage> (&rows)[2]) {
  for (int i = threadIdx.x; i < 2 * kStage * 64 * Q; i += kRowThreads) {
    StagedRows<Q, kStage>& half = rows[i / (kStage * 64 * Q)];
    half.q[i / (64 * Q) % kStage][i % (64 * Q)] = half.k[i / (64 * Q) % kStage][i % (64 * Q)] = 0.0f;
  }
  __syncthreads();
}

// Rows 4 (part + 16 i) + j of four columns of a head's state, from `column` of the block on.
template <int Q>
struct StatePart {
  float state[4 * Q][4];
  int part;
  int column;
  int keys;
  int columns;  // of the four that there are
  int64_t stride;

  __device__ int key_of(int i) const { return 4 * (part + kStateParts * (i / 4)) + i % 4; }

  // `from` at the block's first column; null: zeros.
  __device__ void load(const float* from) {
    const bool wide = stride % 4 == 0 && reinterpret_cast<uintptr_t>(from) % 16 == 0;
#pragma unroll
    for (int i = 0; i < 4 * Q; ++i) {
      for (int c = 0; c < 4; ++c) state[i][c] = 0.0f;
      if (from == nullptr || key_of(i) >= keys || columns <= 0) continue;
      const float* at = from + key_of(i) * stride + column;
      if (wide) {
        const float4 four = *reinterpret_cast<const float4*>(at);
        state[i][0] = four.x, state[i][1] = four.y, state[i][2] = four.z, state[i][3] = four.w;
      } else {
        for (int c = 0; c < 4; ++c) state[i][c] = c < columns ? at[c] : 0.0f;
      }
    }
  }
  __device__ void store(float* to) const {
    const bool wide = stride % 4 == 0 && reinterpret_cast<uintptr_t>(to) % 16 == 0;
#pragma unroll
    for (int i = 0; i < 4 * Q; ++i) {
      if (key_of(i) >= keys || columns <= 0) continue;
      float* at = to + key_of(i) * stride + column;
      if (wide) {
        *reinterpret_cast<float4*>(at) = make_float4(state[i][0], state[i][1], state[i][2], state[i][3]);
      } else {
        for (int c = 0; c < 4; ++c) {
          if (c < columns) at[c] = state[i][c];
        }
      }
    }
  }
  // This thread's part of a row's query or key.
  __device__ void take(const float* from, float (&to)[4 * Q]) const {
    const auto* quads = reinterpret_cast<const float4*>(from) + part;
#pragma unroll
    for (int i = 0; i < Q; ++i) {
      const float4 quad = quads[kStateParts * i];
      to[4 * i] = quad.x, to[4 * i + 1] = quad.y, to[4 * i + 2] = quad.z, to[4 * i + 3] = quad.w;
    }
  }
};

template <typename Op, int Q, int kStage>
struct RowsShared {
  StagedRows<Q, kStage> rows[2];
  typename Op::template Stage<kStage> stage;
};

// A block per 32 columns of a head of a sequence. Op::part_of(part) says which part of the columns a thread
// has; Op::open(args, begin, count, stage) reads what a stage of rows needs besides q, k and v, and
// Op::run(args, begin, count, state, part, rows, stage) computes it: the block's columns of out, and states
// where they are kept, at `state` in their slots. A barrier is behind both.
template <typename Op, int Q, int kStage>
__global__ void __launch_bounds__(kRowThreads) run_rows(const __grid_constant__ RecurrentArgs args) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<RowsShared<Op, Q, kStage>*>(memory);
  const Sequence sequence(args, blockIdx.x);
  if (sequence.rows() < 2 || in_chunks(args, sequence)) return;
  const int64_t head = blockIdx.y, first = int64_t{blockIdx.z} * kStateColumns;
  RowSource source(args.q, head / args.query_group, args.k, head / args.key_group, args.v);
  source.from(args.v, head / args.value_group, first);
  if (source.keys < 64 * Q) clear_rows(shared.rows);
  const int64_t end = sequence.end, offset = head_offset(args, head) + first;
  int64_t begin = sequence.begin;
  source.fetch(begin, begin + kStage < end ? begin + kStage : end, shared.rows[0]);
  StatePart<Q> part;
  Op::part_of(part);
  part.keys = source.keys;
  part.columns = source.columns - part.column;
  part.stride = dim(args.v, 2);
  part.load(sequence.read_slot >= 0 ? row<const float>(args.state, sequence.read_slot) + offset : nullptr);
  for (int now = 0; begin < end; begin += kStage, now ^= 1) {
    const int64_t next = begin + kStage, behind = next + kStage;
    const int count = static_cast<int>(next < end ? kStage : end - begin);
    source.fetch(next, behind < end ? behind : end, shared.rows[now ^ 1]);
    Op::open(args, begin, count, shared.stage);
    __pipeline_wait_prior(1);
    __syncthreads();
    Op::run(args, begin, count, offset, part, shared.rows[now], shared.stage);
    __syncthreads();  // before what is there is fetched over
  }
}

template <typename Op, int Q, int kStage>
void launch_rows_with(const RecurrentArgs& args, const Worker& worker) {
  const int64_t sequences = args.state_read_slot.dim(0);
  const int64_t columns = (args.v.dim(2) + kStateColumns - 1) / kStateColumns;
  constexpr size_t kBytes = sizeof(RowsShared<Op, Q, kStage>);
  allow_shared(worker, run_rows<Op, Q, kStage>, kBytes);
  launch_grid(worker, run_rows<Op, Q, kStage>,
              {blocks_of(sequences > 0 ? sequences : 1, args.state.dim(1), columns), kRowThreads, kBytes},
              args);
}

// Few rows at a time leave room for more blocks; the arithmetic is the same.
template <typename Op, int Q>
void launch_rows(const RecurrentArgs& args, const Worker& worker) {
  constexpr int kFew = 8;
  args.q.dim(0) <= kFew* args.state_read_slot.dim(0) ? launch_rows_with<Op, Q, kFew>(args, worker)
                                                     : launch_rows_with<Op, Q, Op::kStage>(args, worker);
}

}  // namespace lockstep::cuda
