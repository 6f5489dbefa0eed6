// Experts in groups, where an expert has many choices: a block multiplies 128 rows of weights with up to 128
// choices, and both sides come through a ring in shared memory, several stages ahead of the products.
#include "kernels/common/device_math.cuh"
#include "kernels/cuda_kernels.h"
#include "kernels/moe/choice_tiles.cuh"
#include "kernels/moe/groups.cuh"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kOutputWarps = 4, kChoiceWarps = 2;
constexpr int kTiles = 2;                                // of outputs, in a warp
constexpr int kOutputs = kOutputWarps * kTiles * kTile;  // rows of weights, in a block
constexpr int kMostGroups = 8;                           // of choices, in a warp
constexpr int kSteps = 2;                                // of a stage
constexpr int kVector = 8;                               // inputs that are copied at a time
constexpr int kVectors = kSteps * kStep / kVector;       // of a row, in a stage
constexpr int kRowsAtATime = kThreads / kVectors;        // that a block copies
constexpr int kStages = 4;
constexpr int64_t kStageInputs = kSteps * kStep;
constexpr int kStepBytes = kStep * 2;  // of a row
// Rows of one step lie side by side; between the steps is room that puts them into other banks.
constexpr int kGap = 64;
constexpr int step_bytes(int rows) { return rows * kStepBytes + kGap; }
static_assert(kTileChoices == kChoiceWarps * kMostGroups * kGroup);
constexpr int kStageBytes = kSteps * (step_bytes(kOutputs) + step_bytes(kTileChoices));
constexpr size_t kRingBytes = size_t{kStages} * kStageBytes;

__device__ void copy_ahead(unsigned char* to, const __nv_bfloat16* from) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(from) : "memory");
}
__device__ void end_stage() { asm volatile("cp.async.commit_group;" ::: "memory"); }
__device__ void await_stage() { asm volatile("cp.async.wait_group %0;" ::"n"(kStages - 2) : "memory"); }

// The rows of one side that this thread copies: every kRowsAtATime-th, one vector of each.
template <int kRows>
struct Source {
  static constexpr int kEach = kRows / kRowsAtATime;
  static_assert(kRows % kRowsAtATime == 0);
  const __nv_bfloat16* rows[kEach];

  template <typename RowOf>
  __device__ explicit Source(RowOf&& row_of) {
#pragma unroll
    for (int i = 0; i < kEach; ++i)
      rows[i] = row_of(static_cast<int>(threadIdx.x) / kVectors + i * kRowsAtATime) +
                threadIdx.x % kVectors * kVector;
  }
  __device__ void copy(unsigned char* side, int64_t input) const {
    const int vector = threadIdx.x % kVectors, row = threadIdx.x / kVectors;
    constexpr int kOfStep = kStep / kVector;
    unsigned char* to = side + vector / kOfStep * step_bytes(kRows) + vector % kOfStep * 16;
#pragma unroll
    for (int i = 0; i < kEach; ++i) copy_ahead(to + (row + i * kRowsAtATime) * kStepBytes, rows[i] + input);
  }
};

// Sums of a warp: [tile][group], of the quarter at hand and of those before it.
template <int kGroups>
struct Sums {
  float quarter[kTiles][kGroups][4] = {};
  float total[kTiles][kGroups][4];
  int joined = 0;

  __device__ void join() {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int j = 0; j < kGroups; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          total[tile][j][i] = joined == 0 ? quarter[tile][j][i] : total[tile][j][i] + quarter[tile][j][i];
          quarter[tile][j][i] = 0.0f;
        }
      }
    }
    ++joined;
  }
  // One step, whose rows of weights and of choices begin at these places of this lane's.
  __device__ void add(const unsigned char* weights, const unsigned char* choices) {
    uint4 w[kTiles][2];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int half = 0; half < 2; ++half)
        w[tile][half] = *reinterpret_cast<const uint4*>(weights + (tile * kTile + half * 8) * kStepBytes);
    }
#pragma unroll
    for (int j = 0; j < kGroups; ++j) {
      const uint4 x = *reinterpret_cast<const uint4*>(choices + j * kGroup * kStepBytes);
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        const uint4 upper = w[tile][0], lower = w[tile][1];
        multiply_add(quarter[tile][j], {upper.x, lower.x, upper.y, lower.y}, x.x, x.y);
        multiply_add(quarter[tile][j], {upper.z, lower.z, upper.w, lower.w}, x.z, x.w);
      }
    }
  }
};

// Where in its block a warp stands.
struct Place {
  int output_warp = static_cast<int>(threadIdx.x) / kWarp / kChoiceWarps;
  int choice_warp = static_cast<int>(threadIdx.x) / kWarp % kChoiceWarps;
  int lane = static_cast<int>(threadIdx.x) % kWarp;
};

// kOutputs rows of weights with kChoiceWarps * kGroups groups of choices. All threads of the block call it.
template <int kGroups>
__device__ void multiply(const Source<kOutputs>& weights,
                         const Source<kChoiceWarps * kGroups * kGroup>& choices, int64_t inputs,
                         unsigned char* ring, Sums<kGroups>& sums) {
  constexpr int kChoices = kChoiceWarps * kGroups * kGroup;
  constexpr int kWeightBytes = kSteps * step_bytes(kOutputs);
  const auto stages = static_cast<int>(inputs / kStageInputs);
  const int64_t steps = inputs / kStep;
  const Place at;
  const int lane_bytes = at.lane / 4 * kStepBytes + at.lane % 4 * 16;
  const int weights_at = at.output_warp * kTiles * kTile * kStepBytes + lane_bytes;
  const int choices_at = kWeightBytes + at.choice_warp * kGroups * kGroup * kStepBytes + lane_bytes;
  const auto copy = [&](int stage) {
    unsigned char* to = ring + stage % kStages * kStageBytes;
    weights.copy(to, stage * kStageInputs);
    choices.copy(to + kWeightBytes, stage * kStageInputs);
  };
  for (int stage = 0; stage < kStages - 1; ++stage) {
    if (stage < stages) copy(stage);
    end_stage();
  }
  int64_t step = 0, end = steps / kQuarters;
#pragma unroll 1
  for (int stage = 0; stage < stages; ++stage) {
    await_stage();
    __syncthreads();
    if (stage + kStages - 1 < stages) copy(stage + kStages - 1);
    end_stage();
    const unsigned char* from = ring + stage % kStages * kStageBytes;
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      sums.add(from + s * step_bytes(kOutputs) + weights_at, from + s * step_bytes(kChoices) + choices_at);
      if (++step == end) {
        sums.join();
        end = steps * (sums.joined + 1) / kQuarters;
      }
    }
  }
}

// Calls keep(output, choice, sums of all tiles) for the sums of this thread, `output` being the place in a
// tile and `choice` that among the block's.
template <int kGroups, typename Keep>
__device__ void for_sums(const Sums<kGroups>& sums, Keep&& keep) {
  const Place at;
#pragma unroll
  for (int j = 0; j < kGroups; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int choice = (at.choice_warp * kGroups + j) * kGroup + at.lane % 4 * 2 + i % 2;
      keep(at.lane / 4 + i / 2 * 8, choice, sums.total[0][j][i], sums.total[1][j][i]);
    }
  }
}

// Calls body<groups>() with as few groups as take `count` choices.
template <typename Body>
__device__ void with_groups(int count, Body&& body) {
  if (count <= kTileChoices / 4) {
    body.template operator()<kMostGroups / 4>();
  } else if (count <= kTileChoices / 2) {
    body.template operator()<kMostGroups / 2>();
  } else {
    body.template operator()<kMostGroups>();
  }
}

// A block does 64 of the activations of one expert: in each warp a tile of gates and one of what they gate.
__global__ void __launch_bounds__(kThreads, 1) gate_and_up(const __grid_constant__ Experts of) {
  extern __shared__ __align__(16) unsigned char ring[];
  const MoeExpertsArgs& args = of.args;
  const ChoiceTile tile(of, blockIdx.x);
  if (tile.expert < 0) return;
  const auto* order = reinterpret_cast<const int32_t*>(of.region(of.at.order)) + tile.first;
  const int64_t width = args.down.k, each = dim(args.expert_ids, 1), inputs = args.gate_up.k;
  const int64_t f = int64_t{blockIdx.y} * kOutputs / 2;
  const auto* matrix =
      static_cast<const __nv_bfloat16*>(args.gate_up.data) + tile.expert * args.gate_up.expert_stride;
  const auto* x = reinterpret_cast<const __nv_bfloat16*>(of.region(of.at.inputs));
  auto* to = reinterpret_cast<__nv_bfloat16*>(of.region(of.at.activation));
  const Source<kOutputs> weights([&](int r) {
    const int64_t own = f + r / (2 * kTile) * kTile + r % kTile, last = width - 1;
    return matrix + ((own < last ? own : last) + (r / kTile % 2 == 0 ? 0 : width)) * inputs;
  });
  with_groups(tile.count, [&]<int kGroups>() {
    const Source<kChoiceWarps * kGroups * kGroup> choices(
        [&](int c) { return x + order[c < tile.count ? c : tile.count - 1] / each * inputs; });
    Sums<kGroups> sums;
    multiply(weights, choices, inputs, ring, sums);
    for_sums(sums, [&](int output, int choice, float gate, float up) {
      const int64_t at = f + Place().output_warp * kTile + output;
      if (choice < tile.count && at < width) to[(tile.first + choice) * width + at] = activation_of(gate, up);
    });
  });
}

// A block does 128 of the outputs of one expert.
__global__ void __launch_bounds__(kThreads, 1) down(const __grid_constant__ Experts of) {
  extern __shared__ __align__(16) unsigned char ring[];
  const MoeExpertsArgs& args = of.args;
  const ChoiceTile tile(of, blockIdx.x);
  if (tile.expert < 0) return;
  const auto* order = reinterpret_cast<const int32_t*>(of.region(of.at.order)) + tile.first;
  const int64_t inputs = args.down.k, width = args.down.n, e = int64_t{blockIdx.y} * kOutputs;
  const auto* matrix =
      static_cast<const __nv_bfloat16*>(args.down.data) + tile.expert * args.down.expert_stride;
  const auto* x = reinterpret_cast<const __nv_bfloat16*>(of.region(of.at.activation));
  float* products = of.region(of.at.products);
  const Source<kOutputs> weights(
      [&](int r) { return matrix + (e + r < width ? e + r : width - 1) * inputs; });
  with_groups(tile.count, [&]<int kGroups>() {
    const Source<kChoiceWarps * kGroups * kGroup> choices(
        [&](int c) { return x + (tile.first + (c < tile.count ? c : tile.count - 1)) * inputs; });
    Sums<kGroups> sums;
    multiply(weights, choices, inputs, ring, sums);
    for_sums(sums, [&](int output, int choice, float upper, float lower) {
      const int64_t at = e + Place().output_warp * kTiles * kTile + output;
      if (choice >= tile.count) return;
      float* to = products + order[choice] * width + at;
      if (at < width) to[0] = upper;
      if (at + kTile < width) to[kTile] = lower;
    });
  });
}

}  // namespace

bool goes_in_wide_tiles(const MoeExpertsArgs& args) {
  constexpr int64_t kMany = 16;  // choices of an expert, on average: the fewest that this was timed at
  const int64_t experts = args.experts > 0 ? args.experts : args.gate_up.experts;
  const auto fits = [](const PackedWeight& weight) {
    return weight.k % kStageInputs == 0 && weight.k >= kQuarters * kStep;
  };
  return args.expert_ids.elements() >= kMany * experts && fits(args.gate_up) && fits(args.down);
}

void wide_gate_up(const MoeExpertsArgs& args, const Worker& worker) {
  allow_shared(worker, gate_and_up, kRingBytes);
  launch_grid(worker, gate_and_up,
              {blocks_of(most_tiles(args), blocks_for(args.down.k, kOutputs / 2)), kThreads, kRingBytes},
              {args, moe_workspace(args)});
}

void wide_down(const MoeExpertsArgs& args, const Worker& worker) {
  allow_shared(worker, down, kRingBytes);
  launch_grid(worker, down,
              {blocks_of(most_tiles(args), blocks_for(args.down.n, kOutputs)), kThreads, kRingBytes},
              {args, moe_workspace(args)});
}

}  // namespace lockstep::cuda
