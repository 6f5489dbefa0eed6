// The choices of experts in tiles, for blocks that share an expert's weights among many.
#pragma once

#include "kernels/moe/experts.cuh"

namespace lockstep::cuda {

inline constexpr int kTileChoices = 128;

// Choices of one expert, neighbours as they are sorted.
struct ChoiceTile {
  int64_t expert = -1;  // -1: there is no such tile
  int64_t first = 0;
  int count = 0;

  // Tile `index` of those of all experts in order. Every warp of the block asks on its own.
  __device__ ChoiceTile(const Experts& of, int64_t index) {
    const auto* offsets = reinterpret_cast<const int32_t*>(of.region(of.at.offsets));
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    for (int64_t base = 0; base < of.args.gate_up.experts; base += kWarp) {
      const int64_t x = base + lane;
      const int choices = x < of.args.gate_up.experts ? offsets[x + 1] - offsets[x] : 0;
      const int tiles = (choices + kTileChoices - 1) / kTileChoices;
      int before = tiles;  // and own
      for (int offset = 1; offset < kWarp; offset *= 2) {
        const int other = __shfl_up_sync(kAllLanes, before, offset);
        before += lane >= offset ? other : 0;
      }
      const int all = __shfl_sync(kAllLanes, before, kWarp - 1);
      if (index >= all) {
        index -= all;
        continue;
      }
      const int owner = __ffs(__ballot_sync(kAllLanes, index < before)) - 1;
      const int skipped = static_cast<int>(index) - __shfl_sync(kAllLanes, before - tiles, owner);
      const int left = __shfl_sync(kAllLanes, choices, owner) - skipped * kTileChoices;
      expert = base + owner;
      first = offsets[expert] + skipped * kTileChoices;
      count = left < kTileChoices ? left : kTileChoices;
      return;
    }
  }
};

// As many as the choices of a full batch can fill, however they are spread.
inline int64_t most_tiles(const MoeExpertsArgs& args) {
  return args.expert_ids.elements() / kTileChoices + args.gate_up.experts;
}

}  // namespace lockstep::cuda
