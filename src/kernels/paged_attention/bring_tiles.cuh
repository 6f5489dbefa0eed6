// Who brings tiles of tokens to shared memory: the device's copies of boxes, or threads vector by vector
// where a page is no box. Keys go ahead of values by a tile: that is how they are asked for. Both bring the
// same.
#pragma once

#include "kernels/paged_attention/copy_boxes.cuh"
#include "kernels/paged_attention/token_tiles.cuh"

namespace lockstep::cuda::tiles {

// Calls bring(keys or not, tile) for all tiles in their order.
template <typename Bring>
__device__ void for_tiles(int tiles, Bring&& bring) {
#pragma unroll 1
  for (int turn = 0; turn < 2 * tiles + 2; ++turn) {
    const bool keys = turn % 2 == 0;
    const int tile = keys ? turn / 2 : turn / 2 - 1;
    if (tile >= 0 && tile < tiles) bring(keys, tile);
  }
}

// Each warp has its share of a tile's tokens. Those that no row of the block sees come as zeros.
template <int W>
class VectorBringer {
 public:
  static constexpr int kThreads = kGroupThreads;
  static constexpr int kBringers = kThreads;  // that say of a tile that it has come
  // By who attends, between a tile's coming and its products.
  __device__ static void show_tiles() { show_to_matrix_units(); }

  __device__ VectorBringer(const TileArgs& args, const Problem& problem, Memory<W>& memory)
      : cache_(args.attention.cache), problem_(problem), memory_(memory) {}

  __device__ void bring_all() {
    for_tiles(tiles_of<W>(problem_), [this](bool keys, int tile) { bring(keys, tile); });
    await_vectors();
  }

 private:
  static constexpr int kTile = Memory<W>::kTile, kVectors = W / 8;
  static constexpr int kShare = kTile / kWarps;  // tokens
  static_assert(kShare <= kWarp && kShare * kVectors % kWarp == 0);

  __device__ int lane() const { return static_cast<int>(threadIdx.x) % kWarp; }
  __device__ int first_token() const { return static_cast<int>(threadIdx.x) / kWarp % kWarps * kShare; }
  __device__ void bring(bool keys, int tile) {
    const KvPlane& plane = keys ? cache_.k : cache_.v;
    auto& stages = keys ? memory_.of_keys : memory_.of_values;
    auto& to = (keys ? memory_.keys : memory_.values)[stages.of(tile)];
    const auto* elements = static_cast<const uint16_t*>(plane.data);
    const int left = problem_.visible() - tile * kTile - first_token();  // tokens that there are
    const int64_t own = lane() < left && lane() < kShare ? find(plane, tile) : 0;
    stages.await_free(tile);
#pragma unroll 4
    for (int i = lane(); i < kShare * kVectors; i += kWarp) {
      const int token = i / kVectors, v = i % kVectors;
      const bool there = token < left && v * 8 < cache_.head_dim;
      const int64_t from = __shfl_sync(kAllLanes, own, token);
      fetch_vector(to[v / 8] + swizzled(first_token() + token, v % 8), elements + (there ? from + v * 8 : 0),
                   there);
    }
    stages.came(tile).arrive_when_fetched();
  }
  // Where the token with the lane's number lies.
  __device__ int64_t find(const KvPlane& plane, int tile) const {
    const auto page_tokens = static_cast<unsigned>(cache_.page_tokens);
    const auto position = static_cast<unsigned>(tile * kTile + first_token() + lane());
    const unsigned index = position / page_tokens;
    return head_at(plane, problem_.pages[index], problem_.kv_head, position - index * page_tokens);
  }

  const KvView& cache_;
  const Problem& problem_;
  Memory<W>& memory_;
};

// One warp, whose lanes have a box each. Boxes without a token that a row of the block sees stay away, and
// what was there before them stays: nobody looks at it but to see that it is hidden.
template <int W>
class BoxBringer {
 public:
  static constexpr int kThreads = kWarp;
  static constexpr int kBringers = 1;
  __device__ static void show_tiles() {}  // copies write as matrix units read

  __device__ BoxBringer(const TileArgs& args, const Problem& problem, Memory<W>& memory)
      : args_(args), problem_(problem), memory_(memory) {}

  __device__ void bring_all() {
    const int tiles = tiles_of<W>(problem_);
    Box next = find(0), newest = next, before = next;
    for_tiles(tiles, [&](bool keys, int tile) {
      if (keys) {
        before = newest;
        newest = next;
        next = find(tile + 1);  // ahead: it waits for memory
      } else if (tile + 1 == tiles) {
        before = newest;
      }
      bring(keys, tile, keys ? newest : before);
    });
  }

 private:
  static constexpr int kTile = Memory<W>::kTile;
  struct Box {
    bool there = false;
    int page = 0;   // zeros come from one that does not exist
    int token = 0;  // its first one in the page
  };

  __device__ int lane() const { return static_cast<int>(threadIdx.x) % kWarp; }
  // The lane's box of a tile.
  __device__ Box find(int tile) const {
    const int position = tile * kTile + lane() * args_.box_tokens;
    if (lane() * args_.box_tokens >= kTile || position >= problem_.visible()) return {};
    const auto page_tokens = static_cast<unsigned>(args_.attention.cache.page_tokens);
    const unsigned index = static_cast<unsigned>(position) / page_tokens;
    return {true, problem_.pages[index], static_cast<int>(position - index * page_tokens)};
  }
  __device__ void bring(bool keys, int tile, const Box& box) {
    auto& stages = keys ? memory_.of_keys : memory_.of_values;
    auto& to = (keys ? memory_.keys : memory_.values)[stages.of(tile)];
    const int chunk_bytes = args_.box_tokens * kLineBytes;
    const int boxes = __popc(__ballot_sync(kAllLanes, box.there));
    stages.await_free(tile);
    if (lane() == 0) stages.came(tile).arrive_expecting(boxes * Memory<W>::kChunks * chunk_bytes);
    __syncwarp();
    if (!box.there) return;
#pragma unroll
    for (int chunk = 0; chunk < Memory<W>::kChunks; ++chunk) {
      copy_tokens(keys ? args_.keys : args_.values, box.page, static_cast<int>(problem_.kv_head), box.token,
                  chunk * kLineElements, to[chunk] + lane() * chunk_bytes, stages.came(tile));
    }
  }

  const TileArgs& args_;
  const Problem& problem_;
  Memory<W>& memory_;
};

}  // namespace lockstep::cuda::tiles
