// What the warp groups of a block of attend_tiles() share: its tile of rows, its shared memory, and who may
// touch it when.
#pragma once

#include "kernels/common/stages.cuh"
#include "kernels/paged_attention/copy_boxes.cuh"
#include "kernels/paged_attention/cuda_attention.cuh"

namespace lockstep::cuda::tiles {

struct TileArgs {
  PagedAttentionArgs attention;
  int32_t box_tokens = 0;  // 0: there are no boxes
  PlaneBoxes keys;
  PlaneBoxes values;
};

inline constexpr int kGroupThreads = 128;
inline constexpr int kGroupRows = 64;
inline constexpr int kGroups = 2;  // that attend; another one brings
inline constexpr int kRows = kGroups * kGroupRows;
inline constexpr int kWarps = kGroupThreads / kWarp;  // of a group

// Shared memory of a block, for heads of at most W elements, a multiple of 64.
template <int W>
struct Memory {
  static constexpr int kTile = W <= 128 ? 128 : 64;  // tokens
  static constexpr int kStages = 2;
  static constexpr int kChunks = W / kLineElements;
  using Lines = unsigned char[kChunks][kTile * kLineBytes];
  unsigned char queries[kChunks][kRows * kLineBytes];
  Lines keys[kStages];
  Lines values[kStages];
  int not_finite[kStages][kTile];  // 1 + the last tile in which the value of this token was not
  Stages<kStages> of_keys, of_values;
};
inline constexpr int kAlignment = 1024;

struct Problem {
  const int32_t* pages;
  int64_t first_row;  // of the batch
  int64_t kv_head;
  int64_t first_head;                                         // of q
  int heads;                                                  // of q that share the key head
  int rows;                                                   // of the tile
  int position;                                               // of its first row
  __device__ int visible() const { return position + rows; }  // tokens, to its last row
};

__device__ inline int pairs_of(const Problem& problem) { return problem.rows * problem.heads; }
template <int W>
__device__ int tiles_of(const Problem& problem) {
  return (problem.visible() + Memory<W>::kTile - 1) / Memory<W>::kTile;
}

// For all threads that attend: whether one of them says so.
__device__ inline bool await_groups(bool own) {
  int any = 0;
  asm volatile(
      "{\n.reg .pred own, any;\nsetp.ne.b32 own, %1, 0;\n"
      "bar.red.or.pred any, 1, %2, own;\nselp.b32 %0, 1, 0, any;\n}\n"
      : "=r"(any)
      : "r"(static_cast<int>(own)), "n"(kGroups * kGroupThreads)
      : "memory");
  return any != 0;
}

}  // namespace lockstep::cuda::tiles
