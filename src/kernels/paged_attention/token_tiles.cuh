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

// Who may touch which stage of a ring of tiles, each tile having the stage behind the one before.
template <int S>
class Stages {
 public:
  // By one thread, before a barrier of the whole block.
  __device__ void begin() {
    for (int stage = 0; stage < S; ++stage) {
      came_[stage].begin(kGroupThreads);
      read_[stage].begin(kGroups * kWarps);
    }
  }
  __device__ static int of(int tile) { return tile % S; }
  // For who brings: until the stage is free; and what has been fetched so far is all of the tile.
  __device__ void await_free(int tile) const { read_[of(tile)].await(tile / S - 1); }
  __device__ void come_when_fetched(int tile) { came_[of(tile)].arrive_when_fetched(); }
  // For who attends: until the tile is there; and it has been read.
  __device__ void await(int tile) const { came_[of(tile)].await(tile / S); }
  __device__ void leave(int tile) {
    __syncwarp();
    if (threadIdx.x % kWarp == 0) read_[of(tile)].arrive();
  }

 private:
  BlockBarrier came_[S], read_[S];
};

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
      : cache_(cache),
        problem_(problem),
        memory_(memory),
        in_runs_(kWarp % kVectors == 0 && cache.page_tokens % kShare == 0) {}

  // Keys go ahead by a tile: that is how they are asked for.
  __device__ void bring_all() {
    const int tiles = tiles_of<W>(problem_);
#pragma unroll 1
    for (int turn = 0; turn < 2 * tiles + 2; ++turn) {
      const bool keys = turn % 2 == 0;
      const int tile = keys ? turn / 2 : turn / 2 - 1;
      if (tile >= 0 && tile < tiles) bring(keys, tile);
    }
    await_vectors();
  }

 private:
  static constexpr int kTile = Memory<W>::kTile, kStages = Memory<W>::kStages, kVectors = W / 8;
  static constexpr int kShare = kTile / kWarps;             // tokens
  static constexpr int kTurns = kShare * kVectors / kWarp;  // vectors of a lane
  static_assert(kShare <= kWarp && kShare * kVectors % kWarp == 0 && kShare % 8 == 0);
  struct Place {
    int64_t page = 0;
    int64_t in_page = 0;
  };

  __device__ int lane() const { return static_cast<int>(threadIdx.x) % kWarp; }
  __device__ int first_token() const { return static_cast<int>(threadIdx.x) / kWarp % kWarps * kShare; }
  // Tokens that there are from the warp's first one on.
  __device__ int left(int tile) const { return problem_.visible() - tile * kTile - first_token(); }
  // Of the warp's first token, which lies in one page with the others; else of the token with the lane's
  // number.
  __device__ Place find(int tile) const {
    const int token = in_runs_ ? 0 : lane() % kShare;
    if (token >= left(tile)) return {};
    const auto page_tokens = static_cast<unsigned>(cache_.page_tokens);
    const auto position = static_cast<unsigned>(tile * kTile + first_token() + token);
    const unsigned index = position / page_tokens;
    return {problem_.pages[index], position - index * page_tokens};
  }
  __device__ void bring(bool keys, int tile) {
    const KvPlane& plane = keys ? cache_.k : cache_.v;
    Stages<kStages>& stages = keys ? memory_.of_keys : memory_.of_values;
    auto& to = (keys ? memory_.keys : memory_.values)[stages.of(tile)];
    const Place place = find(tile);
    const auto* from = static_cast<const uint16_t*>(plane.data) +
                       head_at(plane, place.page, problem_.kv_head, place.in_page);
    stages.await_free(tile);
    if (in_runs_) {
      fetch_run(from, plane.token_stride, left(tile), to);
    } else {
      fetch_each(from, left(tile), to);
    }
    stages.come_when_fetched(tile);
  }
  __device__ void fetch(const uint16_t* from, int token, int v, bool there, typename Memory<W>::Lines& to) {
    fetch_vector(to[v / 8] + swizzled(first_token() + token, v % 8), from, there && v * 8 < cache_.head_dim);
  }
  __device__ void fetch_run(const uint16_t* from, int64_t stride, int left, typename Memory<W>::Lines& to) {
    constexpr int kTokens = kWarp / kVectors;  // at a time
    constexpr int kGroupTokens = 8;            // after which swizzled places repeat
    const int v = lane() % kVectors, first = lane() / kVectors;
    from += first * stride + v * 8;
#pragma unroll 1
    for (int group = 0; group < kShare; group += kGroupTokens) {
#pragma unroll
      for (int i = 0; i < kGroupTokens; i += kTokens) {
        const int token = group + first + i;
        fetch(from, token, v, token < left, to);
        from += kTokens * stride;
      }
    }
  }
  // `from` is of the token with the lane's number.
  __device__ void fetch_each(const uint16_t* from, int left, typename Memory<W>::Lines& to) {
#pragma unroll 4
    for (int i = 0; i < kTurns; ++i) {
      const int token = (lane() + i * kWarp) / kVectors, v = (lane() + i * kWarp) % kVectors;
      const auto own = __shfl_sync(kAllLanes, reinterpret_cast<uintptr_t>(from), token);
      fetch(reinterpret_cast<const uint16_t*>(own) + v * 8, token, v, token < left, to);
    }
  }

  const KvView& cache_;
  const Problem& problem_;
  Memory<W>& memory_;
  const bool in_runs_;
};

}  // namespace lockstep::cuda::tiles
