// What the blocks of attend_tiles() share: their tile of rows, their shared memory, and the warp group that
// brings tokens there for the others.
#pragma once

#include "kernels/common/block_barrier.cuh"
#include "kernels/paged_attention/cuda_attention.cuh"
#include "kernels/paged_attention/matrix_units.cuh"

namespace lockstep::cuda::tiles {

inline constexpr int kGroupThreads = 128;
inline constexpr int kGroupRows = 64;
inline constexpr int kGroups = 2;  // that attend; another one brings
inline constexpr int kRows = kGroups * kGroupRows;
inline constexpr int kWarps = kGroupThreads / kWarp;  // of a group
inline constexpr int kStages = 2;

// Shared memory of a block, for heads of at most W elements, a multiple of 64.
template <int W>
struct Memory {
  static constexpr int kTile = W <= 128 ? 128 : 64;  // tokens
  static constexpr int kChunks = W / kLineElements;
  using Lines = unsigned char[kChunks][kTile * kLineBytes];
  unsigned char queries[kChunks][kRows * kLineBytes];
  Lines keys[kStages];
  Lines values[kStages];
  int not_finite[kStages][kTile];  // 1 + the last tile in which the value of this token was not
  BlockBarrier keys_came[kStages], values_came[kStages];  // a phase for each tile of the stage
  BlockBarrier keys_read[kStages], values_read[kStages];
};
inline constexpr int kAlignment = 1024;

// Which stage a tile has, and its turn there.
__device__ inline int stage_of(int tile) { return tile % kStages; }
__device__ inline int phase_of(int tile) { return tile / kStages; }

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

// For all threads that attend.
__device__ inline void await_groups() {
  asm volatile("bar.sync 1, %0;" ::"n"(kGroups * kGroupThreads) : "memory");
}

// Brings tiles to shared memory; each warp has its share of a tile's tokens. Those that no row of the block
// sees come as zeros.
template <int W>
class Bringer {
 public:
  __device__ Bringer(const KvView& cache, const Problem& problem, Memory<W>& memory)
      : cache_(cache), problem_(problem), memory_(memory) {}

  // Keys go ahead by a tile: that is how they are asked for.
  __device__ void bring_all() {
    const int tiles = tiles_of<W>(problem_);
    Place place = find(0);
    bring(cache_.k, place, 0, memory_.keys, memory_.keys_read, memory_.keys_came);
    for (int tile = 0; tile < tiles; ++tile) {
      const Place own = place;
      if (tile + 1 < tiles) {
        place = find(tile + 1);
        bring(cache_.k, place, tile + 1, memory_.keys, memory_.keys_read, memory_.keys_came);
      }
      bring(cache_.v, own, tile, memory_.values, memory_.values_read, memory_.values_came);
    }
    await_vectors();
  }

 private:
  static constexpr int kTile = Memory<W>::kTile, kVectors = W / 8;
  static constexpr int kShare = kTile / kWarps;  // tokens
  static_assert(kShare <= kWarp && kShare * kVectors % kWarp == 0);
  struct Place {
    int64_t page = -1;  // -1: nothing to read
    int64_t in_page = 0;
  };

  __device__ int lane() const { return static_cast<int>(threadIdx.x) % kWarp; }
  __device__ int first_token() const { return static_cast<int>(threadIdx.x) / kWarp % kWarps * kShare; }
  // Of the token that this lane finds for its warp.
  __device__ Place find(int tile) const {
    const int position = tile * kTile + first_token() + lane();
    if (lane() >= kShare || position >= problem_.visible()) return {};
    const auto page_tokens = static_cast<unsigned>(cache_.page_tokens);
    const unsigned index = static_cast<unsigned>(position) / page_tokens;
    return {problem_.pages[index], static_cast<unsigned>(position) - index * page_tokens};
  }
  __device__ void bring(const KvPlane& plane, const Place& place, int tile,
                        typename Memory<W>::Lines (&to)[kStages], BlockBarrier (&read)[kStages],
                        BlockBarrier (&came)[kStages]) {
    const int stage = stage_of(tile);
    const auto* elements = static_cast<const uint16_t*>(plane.data);
    const int64_t own = place.page < 0 ? -1 : head_at(plane, place.page, problem_.kv_head, place.in_page);
    read[stage].await(phase_of(tile) - 1);
#pragma unroll 4
    for (int i = lane(); i < kShare * kVectors; i += kWarp) {
      const int token = i / kVectors, v = i % kVectors;
      const int64_t from = __shfl_sync(kAllLanes, own, token);
      const bool there = from >= 0 && v * 8 < cache_.head_dim;
      fetch_vector(to[stage][v / 8] + swizzled(first_token() + token, v % 8),
                   elements + (there ? from + v * 8 : 0), there);
    }
    came[stage].arrive_when_fetched();
  }

  const KvView& cache_;
  const Problem& problem_;
  Memory<W>& memory_;
};

}  // namespace lockstep::cuda::tiles
