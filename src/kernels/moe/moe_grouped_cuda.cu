// Experts in groups: choices sorted by expert, and products of an expert's weights with the rows that chose
// it, by the tensor cores. Weights are the left side of a product, 16 outputs by 32 inputs at a time, read
// once from memory into registers and never shared: where an expert has few rows, that is all the traffic.
// A quarter of the inputs goes to each warp, and the quarters join in their order. A choice is a column of
// the product, so its bits do not depend on what stands beside it.
#include "kernels/common/device_math.cuh"
#include "kernels/cuda_kernels.h"
#include "kernels/moe/groups.cuh"

namespace lockstep::cuda {
namespace {

constexpr int kSortThreads = 512;
constexpr int kConvertThreads = 128;
constexpr int kPairs = 2;  // of tiles of 16 outputs, in a block
constexpr int kThreads = kPairs * kQuarters * kWarp;
constexpr int kChoices = 64;  // of a pass over the weights

// One block per expert: how many choices go to the experts before it, and its own in their order. Every
// thread takes a run of choices.
__global__ void __launch_bounds__(kSortThreads) sort_choices(const __grid_constant__ Experts of) {
  __shared__ int before[kSortThreads];
  const int64_t each = dim(of.args.expert_ids, 1), choices = dim(of.args.expert_ids, 0) * each,
                x = blockIdx.x;
  const int64_t share = (choices + kSortThreads - 1) / kSortThreads, first = threadIdx.x * share;
  const int64_t end = first + share < choices ? first + share : choices;
  int lower = 0, own = 0;
  for (int64_t i = first; i < end; ++i) {
    const int64_t matrix = of.matrix_of(i / each, i % each);
    lower += matrix >= 0 && matrix < x;
    own += matrix == x;
  }
  lower = block_sum<kSortThreads>(lower);
  before[threadIdx.x] = own;
  __syncthreads();
  for (int offset = 1; offset < kSortThreads; offset *= 2) {
    const int other = static_cast<int>(threadIdx.x) >= offset ? before[threadIdx.x - offset] : 0;
    __syncthreads();
    before[threadIdx.x] += other;
    __syncthreads();
  }
  auto* offsets = reinterpret_cast<int32_t*>(of.region(of.at.offsets));
  auto* to = reinterpret_cast<int32_t*>(of.region(of.at.order)) + lower + before[threadIdx.x] - own;
  for (int64_t i = first; own > 0 && i < end; ++i) {
    if (of.matrix_of(i / each, i % each) == x) *to++ = static_cast<int32_t>(i);
  }
  if (threadIdx.x == 0) offsets[x] = lower;
  if (threadIdx.x == 0 && x == of.args.gate_up.experts - 1) offsets[x + 1] = lower + before[kSortThreads - 1];
}

// x as it enters the products, row by row.
__global__ void __launch_bounds__(kConvertThreads) convert_rows(const __grid_constant__ Experts of) {
  const int64_t t = blockIdx.x, width = dim(of.args.x, 1);
  const float* from = row<const float>(of.args.x, t);
  auto* to = reinterpret_cast<__nv_bfloat16*>(of.region(of.at.inputs)) + t * width;
  for (int64_t e = int64_t{blockIdx.y} * kConvertThreads + threadIdx.x; e < width;
       e += int64_t{gridDim.y} * kConvertThreads)
    to[e] = from_float<__nv_bfloat16>(from[e]);
}

// Quarters of sums: [quarter][pair][tile][output][choice].
struct Shared {
  float sums[kQuarters][kPairs][2][kTile][kChoices];

  __device__ float total(int pair, int tile, int output, int choice) const {
    float sum = sums[0][pair][tile][output][choice];
    for (int q = 1; q < kQuarters; ++q) sum += sums[q][pair][tile][output][choice];
    return sum;
  }
};

// What a warp multiplies: two tiles of weights with a few rows of inputs.
struct Operands {
  const __nv_bfloat16* tiles[2];                 // the first output of each
  const __nv_bfloat16* rows[kChoices / kGroup];  // this lane's choice of each group
  int64_t inputs;
};

// A lane's operands: eight inputs at a time of two outputs of each tile and of one choice of each group.
// Which of them are called neighbours does not matter as long as both sides do the same.
template <int kGroups>
struct LaneOperands {
  const uint4* weights[4];
  const uint4* rows[kGroups];

  __device__ LaneOperands(const Operands& of, int64_t step) {
    const int64_t outer = threadIdx.x % kWarp / 4, k = step * kStep + threadIdx.x % 4 * 8;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      weights[i] = reinterpret_cast<const uint4*>(of.tiles[i / 2] + (outer + i % 2 * 8) * of.inputs + k);
#pragma unroll
    for (int j = 0; j < kGroups; ++j) rows[j] = reinterpret_cast<const uint4*>(of.rows[j] + k);
  }

  // kAhead steps, whose operands are on their way together.
  template <int kAhead>
  __device__ void multiply(float (&sums)[2][kGroups][4]) {
    constexpr int kVectors = kStep / 8;  // of a step
    uint4 w[kAhead][4], x[kAhead][kGroups];
#pragma unroll
    for (int s = 0; s < kAhead; ++s) {
#pragma unroll
      for (int i = 0; i < 4; ++i) w[s][i] = __ldcs(weights[i] + s * kVectors);
#pragma unroll
      for (int j = 0; j < kGroups; ++j) x[s][j] = rows[j][s * kVectors];
    }
#pragma unroll
    for (int s = 0; s < kAhead; ++s) {
#pragma unroll
      for (int tile = 0; tile < 2; ++tile) {
        const uint4 upper = w[s][2 * tile], lower = w[s][2 * tile + 1];
#pragma unroll
        for (int j = 0; j < kGroups; ++j) {
          multiply_add(sums[tile][j], {upper.x, lower.x, upper.y, lower.y}, x[s][j].x, x[s][j].y);
          multiply_add(sums[tile][j], {upper.z, lower.z, upper.w, lower.w}, x[s][j].z, x[s][j].w);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) weights[i] += kAhead * kVectors;
#pragma unroll
    for (int j = 0; j < kGroups; ++j) rows[j] += kAhead * kVectors;
  }
};

template <int kGroups>
__device__ void multiply(const Operands& of, int quarter, float (&sums)[2][kGroups][4]) {
  constexpr int kAhead = kGroups < 4 ? 4 : 2;
  const int64_t steps = of.inputs / kStep, begin = steps * quarter / kQuarters;
  int left = static_cast<int>(steps * (quarter + 1) / kQuarters - begin);
  LaneOperands<kGroups> lane(of, begin);
#pragma unroll 1
  for (; left >= kAhead; left -= kAhead) lane.template multiply<kAhead>(sums);
#pragma unroll 1
  for (; left > 0; --left) lane.template multiply<1>(sums);
}

template <int kGroups>
__device__ void multiply_into(const Operands& of, int pair, int quarter, Shared& shared) {
  float sums[2][kGroups][4] = {};
  multiply<kGroups>(of, quarter, sums);
  const int lane = threadIdx.x % kWarp, output = lane / 4, choice = lane % 4 * 2;
#pragma unroll
  for (int tile = 0; tile < 2; ++tile) {
    auto& to = shared.sums[quarter][pair][tile];
#pragma unroll
    for (int j = 0; j < kGroups; ++j) {
      to[output][j * kGroup + choice] = sums[tile][j][0];
      to[output][j * kGroup + choice + 1] = sums[tile][j][1];
      to[output + 8][j * kGroup + choice] = sums[tile][j][2];
      to[output + 8][j * kGroup + choice + 1] = sums[tile][j][3];
    }
  }
}

// The choices of one expert, as they are sorted.
struct Range {
  const int32_t* order;
  int64_t begin;
  int64_t end;

  __device__ Range(const Experts& of, int64_t x) {
    const auto* offsets = reinterpret_cast<const int32_t*>(of.region(of.at.offsets));
    order = reinterpret_cast<const int32_t*>(of.region(of.at.order));
    begin = offsets[x];
    end = offsets[x + 1];
  }
};

// Calls row_of(place) for the inputs of a sorted choice, and keep(pair, output, place, choice) for every sum.
template <typename RowOf, typename Keep>
__device__ void for_choices(const Range& range, Operands of, Shared& shared, RowOf&& row_of, Keep&& keep) {
  const int warp = threadIdx.x / kWarp, pair = warp / kQuarters, quarter = warp % kQuarters;
  for (int64_t first = range.begin; first < range.end; first += kChoices) {
    const int64_t left = range.end - first, count = left < kChoices ? left : kChoices;
#pragma unroll
    for (int j = 0; j < kChoices / kGroup; ++j) {
      const int64_t choice = j * kGroup + threadIdx.x % kWarp / 4;
      of.rows[j] = row_of(first + (choice < count ? choice : count - 1));
    }
    if (of.tiles[0] != nullptr) {
      if (count <= kGroup) {
        multiply_into<1>(of, pair, quarter, shared);
      } else if (count <= 2 * kGroup) {
        multiply_into<2>(of, pair, quarter, shared);
      } else if (count <= 4 * kGroup) {
        multiply_into<4>(of, pair, quarter, shared);
      } else {
        multiply_into<8>(of, pair, quarter, shared);
      }
    }
    __syncthreads();
    for (int64_t i = threadIdx.x; i < count * kPairs * kTile; i += kThreads) {
      const int output = static_cast<int>(i % (kPairs * kTile));
      const auto choice = static_cast<int>(i / (kPairs * kTile));
      keep(output / kTile, output % kTile, first + choice, choice);
    }
    __syncthreads();
  }
}

// A block does 32 of the activations of one expert.
__global__ void __launch_bounds__(kThreads, 1) gate_and_up(const __grid_constant__ Experts of) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<Shared*>(memory);
  const MoeExpertsArgs& args = of.args;
  const Range range(of, blockIdx.x);
  const int64_t width = args.down.k, each = dim(args.expert_ids, 1), inputs = args.gate_up.k;
  const int64_t f = int64_t{blockIdx.y} * kPairs * kTile;
  const auto* weights =
      static_cast<const __nv_bfloat16*>(args.gate_up.data) + blockIdx.x * args.gate_up.expert_stride;
  const auto* x = reinterpret_cast<const __nv_bfloat16*>(of.region(of.at.inputs));
  auto* to = reinterpret_cast<__nv_bfloat16*>(of.region(of.at.activation));
  const int64_t first = f + threadIdx.x / (kQuarters * kWarp) * kTile;
  const Operands operands{
      .tiles = {weights + first * inputs, weights + (width + first) * inputs}, .rows = {}, .inputs = inputs};
  for_choices(
      range, operands, shared, [&](int64_t place) { return x + range.order[place] / each * inputs; },
      [&](int pair, int output, int64_t place, int choice) {
        const float gate = shared.total(pair, 0, output, choice), up = shared.total(pair, 1, output, choice);
        to[place * width + f + pair * kTile + output] = activation_of(gate, up);
      });
}

// A block does 64 of the outputs of one expert.
__global__ void __launch_bounds__(kThreads, 1) down(const __grid_constant__ Experts of) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<Shared*>(memory);
  const MoeExpertsArgs& args = of.args;
  const Range range(of, blockIdx.x);
  const int64_t inputs = args.down.k, width = args.down.n;
  const int64_t e = int64_t{blockIdx.y} * 2 * kPairs * kTile;
  const auto* weights =
      static_cast<const __nv_bfloat16*>(args.down.data) + blockIdx.x * args.down.expert_stride;
  const auto* x = reinterpret_cast<const __nv_bfloat16*>(of.region(of.at.activation));
  float* to = of.region(of.at.products);
  const int64_t first = e + threadIdx.x / (kQuarters * kWarp) * 2 * kTile;
  Operands operands{.tiles = {}, .rows = {}, .inputs = inputs};
#pragma unroll
  for (int tile = 0; tile < 2; ++tile)
    operands.tiles[tile] = first < width ? weights + (first + tile * kTile) * inputs : nullptr;
  for_choices(
      range, operands, shared, [&](int64_t place) { return x + place * inputs; },
      [&](int pair, int output, int64_t place, int choice) {
        const int64_t at = e + pair * 2 * kTile + output;
        if (at >= width) return;
        float* sums = to + range.order[place] * width + at;
        sums[0] = shared.total(pair, 0, output, choice);
        sums[kTile] = shared.total(pair, 1, output, choice);
      });
}

}  // namespace

bool goes_in_groups(const MoeExpertsArgs& args) {
  const PackedWeight &in = args.gate_up, &out = args.down;
  const auto aligned = [](const PackedWeight& weight) {
    return weight.layout == WeightLayout::kRowMajor && weight.k % kStep == 0 &&
           weight.expert_stride % 8 == 0 && reinterpret_cast<uintptr_t>(weight.data) % 16 == 0;
  };
  return in.dtype == DType::kBF16 && args.input == MatmulInput::kBF16 && aligned(in) && aligned(out) &&
         reinterpret_cast<uintptr_t>(args.workspace.data) % 16 == 0;
}

void moe_sort(const MoeExpertsArgs& args, Worker worker) {
  if (!goes_in_groups(args)) return;
  launch_grid(worker, sort_choices, {blocks_of(args.gate_up.experts), kSortThreads},
              {args, moe_workspace(args)});
}

void moe_prepare_by_row(const MoeExpertsArgs& args, Worker worker) {
  if (!goes_in_groups(args)) return;
  const int64_t blocks = blocks_for(args.gate_up.k, 4 * kConvertThreads);
  launch_grid(worker, convert_rows, {blocks_of(args.x.dim(0), blocks), kConvertThreads},
              {args, moe_workspace(args)});
}

void grouped_gate_up(const MoeExpertsArgs& args, const Worker& worker) {
  if (goes_in_wide_tiles(args)) return wide_gate_up(args, worker);
  allow_shared(worker, gate_and_up, sizeof(Shared));
  launch_grid(
      worker, gate_and_up,
      {blocks_of(args.gate_up.experts, blocks_for(args.down.k, kPairs * kTile)), kThreads, sizeof(Shared)},
      {args, moe_workspace(args)});
}

void grouped_down(const MoeExpertsArgs& args, const Worker& worker) {
  if (goes_in_wide_tiles(args)) return wide_down(args, worker);
  allow_shared(worker, down, sizeof(Shared));
  launch_grid(
      worker, down,
      {blocks_of(args.down.experts, blocks_for(args.down.n, 2 * kPairs * kTile)), kThreads, sizeof(Shared)},
      {args, moe_workspace(args)});
}

}  // namespace lockstep::cuda
