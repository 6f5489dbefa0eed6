// What both recurrent ops do to find what the rows of a chunk say to each other: a block per chunk and head
// rounds q and k, and multiplies them with each other.
#pragma once

#include "kernels/common/recurrent_scan.cuh"

namespace lockstep::cuda {

inline constexpr int kFindThreads = 256;

// Rounds the rows of a chunk, a warp per row, into shared memory and the workspace. Every row is multiplied
// with `scale`, after it was normalised if `kNormalises`.
template <int D, bool kNormalises>
__device__ void round_rows(const TensorView& from, int64_t head, const ChunkPlace& chunk, float scale,
                           __nv_bfloat16 (*to)[kKeyLine<D>], __nv_bfloat16* out, int64_t heads) {
  constexpr int kPairs = D / 64, kRows = kChunkRows / (kFindThreads / kWarp);
  const int lane = threadIdx.x % kWarp, first = threadIdx.x / kWarp * kRows;
  float2 values[kRows][kPairs];
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
#pragma unroll
    for (int p = 0; p < kPairs; ++p) {
      const auto* pairs =
          reinterpret_cast<const float2*>(at<const float>(from, chunk.begin + first + i, head));
      values[i][p] = first + i < chunk.count ? pairs[lane + p * kWarp] : make_float2(0.0f, 0.0f);
    }
  }
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    float squares = 0.0f;
#pragma unroll
    for (int p = 0; p < kPairs; ++p)
      squares = __fmaf_rn(values[i][p].x, values[i][p].x, __fmaf_rn(values[i][p].y, values[i][p].y, squares));
    const float by = kNormalises ? scale / __fsqrt_rn(warp_sum(squares) + 1e-6f) : scale;
#pragma unroll
    for (int p = 0; p < kPairs; ++p) {
      const uint32_t two = packed(by * values[i][p].x, by * values[i][p].y);
      const int d = 2 * (lane + p * kWarp), r = first + i;
      *reinterpret_cast<uint32_t*>(&to[r][d]) = two;
      if (out != nullptr && r < chunk.count)
        *reinterpret_cast<uint32_t*>(out + ((chunk.begin + r) * heads + head) * D + d) = two;
    }
  }
}

// sums = rows [row, row + 16) of `left` times rows of `right`, those up to the diagonal.
template <int D>
__device__ void multiply_rows_below(const __nv_bfloat16 (*left)[kKeyLine<D>],
                                    const __nv_bfloat16 (*right)[kKeyLine<D>], int row, TileSums (&sums)[8]) {
#pragma unroll
  for (int k = 0; k < D; k += 16) {
    uint32_t a[4], b[4];
    load_left(&left[row][k], kKeyLine<D>, a);
#pragma unroll
    for (int n = 0; n < 8; n += 2) {
      if (n * 8 > row) break;
      load_right(&right[n * 8][k], kKeyLine<D>, b);
      multiply_tile(sums[n], a, b[0], b[1]);
      multiply_tile(sums[n + 1], a, b[2], b[3]);
    }
  }
}

// The thread's sums of rows [row, row + 16), with pairs of columns: run(row, column, first, second).
template <typename Run>
__device__ void for_sums(const TileSums (&sums)[8], int row, Run&& run) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int n = 0; n < 8; ++n) {
#pragma unroll
    for (int half = 0; half < 2; ++half)
      run(row + lane / 4 + 8 * half, n * 8 + lane % 4 * 2, sums[n].c[2 * half], sums[n].c[2 * half + 1]);
  }
}

}  // namespace lockstep::cuda
