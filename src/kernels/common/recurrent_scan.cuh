// Sequences of several rows in chunks of 64, counted from the sequence's first row, on matrix units. What the
// rows of a chunk say to each other is found for all chunks at once (Op::find_chunks); then blocks walk over
// the chunks of a sequence, each with 32 columns of a head's state in registers. With S the state before the
// chunk, in = what is left of it at a row, and out = what is left of a row behind the chunk:
//   x = beta (v - in K S)    d = x + solved x    O = in Q S + weights d    S <- in of the last row S + Kᵀ
//   (out d)
// where nothing is corrected, d = v. S stays f32 in registers; what enters a product is rounded to bf16.
#pragma once

#include "kernels/common/matrix_tiles.cuh"
#include "kernels/common/recurrent.cuh"

namespace lockstep::cuda {

inline constexpr int kScanColumns = 32;
inline constexpr int kScanThreads = 256;
inline constexpr int kChunkRows = static_cast<int>(kRecurrentChunk);
inline constexpr int kScanTiles = kScanColumns / 8;

// Lines are padded to odd multiples of 16 bytes, those of v to 32 bytes behind a multiple of 128.
inline constexpr int kRowLine = kChunkRows + 8;
inline constexpr int kColumnLine = kScanColumns + 8;
template <int D>
inline constexpr int kKeyLine = D + 8;

// One chunk's part of what was found. Rows that the chunk does not have are zeros.
template <int D>
struct alignas(16) ChunkStage {
  __nv_bfloat16 q[kChunkRows][kKeyLine<D>];
  __nv_bfloat16 k[kChunkRows][kKeyLine<D>];
  __nv_bfloat16 weights[kChunkRows][kRowLine];
  __nv_bfloat16 solved[kChunkRows][kRowLine];
  float v[kChunkRows][kColumnLine];
  float4 gates[kChunkRows];  // beta, in, out
};

template <int D>
struct ScanMemory {
  ChunkStage<D> stages[2];
  __nv_bfloat16 state[D][kColumnLine];
  __nv_bfloat16 x[kChunkRows][kColumnLine];
  __nv_bfloat16 d[kChunkRows][kColumnLine];
  __nv_bfloat16 lasting[kChunkRows][kColumnLine];  // out d
};

// Which columns of which head a block has, and where what it reads of a row lies.
struct ScanPlace {
  int64_t end;  // of the sequence's rows
  int64_t head;
  int64_t first_column;
  int64_t line;                              // of the head in a row's weights
  int64_t query, key;                        // its first element in a row
  int64_t row_lines, row_queries, row_keys;  // from row to row
  const float* v;

  __device__ ScanPlace(const RecurrentArgs& args, int64_t sequence_end)
      : end(sequence_end), head(blockIdx.y), first_column(int64_t{blockIdx.x} * kScanColumns) {
    const int64_t heads = dim(args.state, 1), size = dim(args.state, 2);
    line = head * kChunkRows, row_lines = heads * kChunkRows;
    query = head / args.query_group * size, row_queries = heads / args.query_group * size;
    key = head / args.key_group * size, row_keys = heads / args.key_group * size;
    v = at<const float>(args.v, 0, head / args.value_group) + first_column;
  }
};

// Sends for the rows of the chunk from `begin` on; what the chunk does not have is zero.
template <bool kCorrects, int D>
__device__ void fetch_chunk(const RecurrentArgs& args, const ScanPlace& place, int64_t begin,
                            ChunkStage<D>& to) {
  const auto* q = reinterpret_cast<const __nv_bfloat16*>(args.scratch + args.at.query) + place.query;
  const auto* k = reinterpret_cast<const __nv_bfloat16*>(args.scratch + args.at.key) + place.key;
  const auto* weights = reinterpret_cast<const __nv_bfloat16*>(args.scratch + args.at.weights) + place.line;
  const auto* solved = reinterpret_cast<const __nv_bfloat16*>(args.scratch + args.at.solved) + place.line;
  const auto* gates = reinterpret_cast<const float4*>(args.scratch + args.at.gates) + place.head;
  constexpr int kVectors = D / 8;
#pragma unroll
  for (int i = threadIdx.x; i < kChunkRows * kVectors; i += kScanThreads) {
    const int r = i / kVectors, e = i % kVectors * 8;
    const bool there = begin + r < place.end;
    const int64_t t = there ? begin + r : begin;
    fetch_16(&to.q[r][e], q + t * place.row_queries + e, there);
    fetch_16(&to.k[r][e], k + t * place.row_keys + e, there);
  }
#pragma unroll
  for (int i = threadIdx.x; i < kChunkRows * 8; i += kScanThreads) {
    const int r = i / 8, e = i % 8;
    const bool there = begin + r < place.end;
    const int64_t t = there ? begin + r : begin;
    fetch_16(&to.weights[r][e * 8], weights + t * place.row_lines + e * 8, there);
    if (kCorrects) fetch_16(&to.solved[r][e * 8], solved + t * place.row_lines + e * 8, there);
    fetch_16(&to.v[r][e * 4], place.v + t * args.v.strides[0] + e * 4, there);
    if (e == 0) fetch_16(&to.gates[r], gates + t * dim(args.state, 1), there);
  }
}

// sums += left * right, 16 rows by 32 columns over kDepth of k. Lines of `right` run along its columns, those
// of `left` along k or, where it is turned, along its rows. Four steps' operands are asked for at once.
template <int kDepth, bool kTurned>
__device__ void multiply(TileSums (&sums)[kScanTiles], const __nv_bfloat16* left, int left_stride,
                         const __nv_bfloat16* right) {
#pragma unroll
  for (int first = 0; first < kDepth; first += 64) {
    uint32_t a[4][4], b[4][kScanTiles / 2][4];
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      const int k = first + 16 * step;
      if (kTurned) {
        load_left_turned(left + k * left_stride, left_stride, a[step]);
      } else {
        load_left(left + k, left_stride, a[step]);
      }
#pragma unroll
      for (int n = 0; n < kScanTiles / 2; ++n)
        load_right_turned(right + k * kColumnLine + n * 16, kColumnLine, b[step][n]);
    }
#pragma unroll
    for (int step = 0; step < 4; ++step) {
#pragma unroll
      for (int n = 0; n < kScanTiles; ++n)
        multiply_tile(sums[n], a[step], b[step][n / 2][n % 2 * 2], b[step][n / 2][n % 2 * 2 + 1]);
    }
  }
}

// The thread's pairs of a tile of 16 rows by 32 columns: run(tile, pair, row of the tile, column).
template <typename Run>
__device__ void for_pairs(Run&& run) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int n = 0; n < kScanTiles; ++n) {
#pragma unroll
    for (int half = 0; half < 2; ++half) run(n, 2 * half, lane / 4 + 8 * half, n * 8 + lane % 4 * 2);
  }
}

// A tile of 16 rows, from `row` on, into lines of bf16.
__device__ inline void keep_rounded(const TileSums (&tile)[kScanTiles], int row,
                                    __nv_bfloat16 (*to)[kColumnLine]) {
  for_pairs([&](int n, int pair, int r, int column) {
    *reinterpret_cast<uint32_t*>(&to[row + r][column]) = packed(tile[n].c[pair], tile[n].c[pair + 1]);
  });
}

// What a thread needs of the rows that it has of 16 from `row` on.
struct RowGates {
  float4 gates[2];
  __device__ RowGates(const float4* of_chunk, int row) {
    const int lane = threadIdx.x % kWarp;
    gates[0] = of_chunk[row + lane / 4], gates[1] = of_chunk[row + lane / 4 + 8];
  }
  __device__ const float4& of(int pair) const { return gates[pair / 2]; }
};

// Of rows [row, row + 16): what they bring that the state does not know, or all of it where nothing is
// corrected.
template <bool kCorrects, int D>
__device__ void find_news(ScanMemory<D>& memory, const ChunkStage<D>& stage, int row,
                          TileSums (&d)[kScanTiles]) {
  for_pairs([&](int n, int pair, int r, int column) {
    const float2 v = *reinterpret_cast<const float2*>(&stage.v[row + r][column]);
    d[n].c[pair] = v.x, d[n].c[pair + 1] = v.y;
  });
  if constexpr (kCorrects) {
    const RowGates gates(stage.gates, row);
    TileSums known[kScanTiles];
    multiply<D, false>(known, &stage.k[row][0], kKeyLine<D>, &memory.state[0][0]);
    for_pairs([&](int n, int pair, int, int) {
      const float4& gate = gates.of(pair);
      d[n].c[pair] = gate.x * __fmaf_rn(-gate.y, known[n].c[pair], d[n].c[pair]);
      d[n].c[pair + 1] = gate.x * __fmaf_rn(-gate.y, known[n].c[pair + 1], d[n].c[pair + 1]);
    });
    keep_rounded(d, row, memory.x);
  }
}

// What rows [row, row + 16) change, and what lasts of it behind the chunk.
template <bool kCorrects, int D>
__device__ void find_changes(ScanMemory<D>& memory, const ChunkStage<D>& stage, int row,
                             TileSums (&d)[kScanTiles]) {
  const RowGates gates(stage.gates, row);
  if constexpr (kCorrects) multiply<kChunkRows, false>(d, &stage.solved[row][0], kRowLine, &memory.x[0][0]);
  keep_rounded(d, row, memory.d);
  for_pairs([&](int n, int pair, int, int) {
    d[n].c[pair] *= gates.of(pair).z, d[n].c[pair + 1] *= gates.of(pair).z;
  });
  keep_rounded(d, row, memory.lasting);
}

// What the state before the chunk says to rows [row, row + 16).
template <int D>
__device__ void ask_state(const ScanMemory<D>& memory, const ChunkStage<D>& stage, int row,
                          TileSums (&out)[kScanTiles]) {
  const RowGates gates(stage.gates, row);
  multiply<D, false>(out, &stage.q[row][0], kKeyLine<D>, &memory.state[0][0]);
  for_pairs([&](int n, int pair, int, int) {
    out[n].c[pair] *= gates.of(pair).y, out[n].c[pair + 1] *= gates.of(pair).y;
  });
}

// What the rows of the chunk say to each other comes in, and rows [row, row + 16) go out.
template <int D>
__device__ void write_rows(const RecurrentArgs& args, const ScanPlace& place, const ScanMemory<D>& memory,
                           const ChunkStage<D>& stage, int64_t begin, int row, TileSums (&out)[kScanTiles]) {
  multiply<kChunkRows, false>(out, &stage.weights[row][0], kRowLine, &memory.d[0][0]);
  for_pairs([&](int n, int pair, int r, int column) {
    const int64_t t = begin + row + r;
    if (t >= place.end) return;
    float* to = at<float>(args.out, t, place.head) + place.first_column + column;
    *reinterpret_cast<float2*>(to) = make_float2(out[n].c[pair], out[n].c[pair + 1]);
  });
}

// A warp's 16 rows of the state; `state` at the block's first column of the head.
__device__ inline void load_state(const float* state, int64_t stride, int row, TileSums (&tile)[kScanTiles]) {
  if (state == nullptr) return;
  for_pairs([&](int n, int pair, int r, int column) {
    const float* at = state + (row + r) * stride + column;
    tile[n].c[pair] = at[0], tile[n].c[pair + 1] = at[1];
  });
}
__device__ inline void store_state(const TileSums (&tile)[kScanTiles], int64_t stride, int row,
                                   float* state) {
  for_pairs([&](int n, int pair, int r, int column) {
    float* at = state + (row + r) * stride + column;
    at[0] = tile[n].c[pair], at[1] = tile[n].c[pair + 1];
  });
}

// A block per 32 columns of a head of a sequence; warps 0 to 3 find what changes the state, warps 4 to 7 what
// goes out, and each keeps 16 rows of the state.
template <bool kCorrects, int D>
__global__ void __launch_bounds__(kScanThreads, 1) scan_chunks(const __grid_constant__ RecurrentArgs args) {
  extern __shared__ __align__(16) unsigned char bytes[];
  auto& memory = *reinterpret_cast<ScanMemory<D>*>(bytes);
  const Sequence sequence(args, blockIdx.z);
  if (sequence.rows() < 2 || !in_chunks(args, sequence)) return;
  const ScanPlace place(args, sequence.end);
  const int warp = threadIdx.x / kWarp, state_row = warp * 16, row = warp % 4 * 16;
  const int64_t stride = dim(args.state, 3), offset = head_offset(args, place.head) + place.first_column;
  const bool keeps = state_row < D, finds = warp < 4;
  fetch_chunk<kCorrects>(args, place, sequence.begin, memory.stages[0]);
  TileSums state[kScanTiles];
  if (keeps && sequence.read_slot >= 0)
    load_state(lockstep::cuda::row<const float>(args.state, sequence.read_slot) + offset, stride, state_row,
               state);
  int now = 0;
  for (int64_t begin = sequence.begin; begin < sequence.end; begin += kChunkRows, now ^= 1) {
    const ChunkStage<D>& stage = memory.stages[now];
    if (keeps) keep_rounded(state, state_row, memory.state);
    await_fetched();
    __syncthreads();
    if (begin + kChunkRows < sequence.end)
      fetch_chunk<kCorrects>(args, place, begin + kChunkRows, memory.stages[now ^ 1]);
    TileSums rows[kScanTiles];  // what they bring, or what goes out
    if (finds) {
      find_news<kCorrects>(memory, stage, row, rows);
    } else {
      ask_state(memory, stage, row, rows);
    }
    if (kCorrects) __syncthreads();
    if (finds) find_changes<kCorrects>(memory, stage, row, rows);
    __syncthreads();
    if (!finds) write_rows(args, place, memory, stage, begin, row, rows);
    if (!keeps) continue;
    const int64_t left = sequence.end - begin;
    const float decay = stage.gates[left < kChunkRows ? left - 1 : kChunkRows - 1].y;
    for_pairs([&](int n, int pair, int, int) { state[n].c[pair] *= decay, state[n].c[pair + 1] *= decay; });
    multiply<kChunkRows, true>(state, &stage.k[0][state_row], kKeyLine<D>, &memory.lasting[0][0]);
  }
  const int32_t slot = write_slot(args, sequence.end - 1);
  if (keeps && slot >= 0)
    store_state(state, stride, state_row, lockstep::cuda::row<float>(args.state, slot) + offset);
}

// Which chunk a block of Op::find_chunks has: blocks stand for as many chunks as there may be.
struct ChunkPlace {
  int64_t begin = 0;  // its first row
  int count = 0;      // of its rows; 0: there is no such chunk, or its sequence has one row

  __device__ ChunkPlace(const RecurrentArgs& args, int64_t number) {
    const auto* starts = static_cast<const int32_t*>(args.query_start_loc.data);
    // Sequence s begins at number starts[s] / 64 + s: so no two chunks have the same.
    int64_t low = 0, high = live(args.num_seqs, dim(args.state_read_slot, 0));
    while (high - low > 1) {
      const int64_t middle = (low + high) / 2;
      (starts[middle] / kChunkRows + middle <= number ? low : high) = middle;
    }
    if (high == 0) return;
    begin = starts[low] + (number - starts[low] / kChunkRows - low) * kChunkRows;
    const int64_t left = starts[low + 1] - begin;
    if (begin >= starts[low] && left > 0 && starts[low + 1] - starts[low] > 1)
      count = static_cast<int>(left < kChunkRows ? left : kChunkRows);
  }
};

template <typename Op, int D>
void launch_chunks(const RecurrentArgs& args, const Worker& worker) {
  const int64_t sequences = args.state_read_slot.dim(0), chunks = args.q.dim(0) / kChunkRows + sequences;
  Op::template find_chunks<D>(args, chunks, worker);
  constexpr size_t kBytes = sizeof(ScanMemory<D>);
  allow_shared(worker, scan_chunks<Op::kCorrects, D>, kBytes);
  launch_grid(worker, scan_chunks<Op::kCorrects, D>,
              {blocks_of(args.v.dim(2) / kScanColumns, args.state.dim(1), sequences), kScanThreads, kBytes},
              args);
}

}  // namespace lockstep::cuda
