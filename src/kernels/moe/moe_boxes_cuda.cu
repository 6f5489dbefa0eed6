// Experts where the order of sums may follow from the number of rows: two warp groups multiply 256 rows of an
// expert's weights with up to 128 of its choices; boxes of both come to shared memory as copies of the
// device, several on their way. Inputs lie sorted by expert, so a tile of choices is a box, too.
#include "kernels/common/stages.cuh"
#include "kernels/common/tensor_boxes.cuh"
#include "kernels/cuda_kernels.h"
#include "kernels/moe/choice_tiles.cuh"
#include "kernels/moe/groups.cuh"

namespace lockstep::cuda {
namespace {

constexpr int kGroupThreads = 128;
constexpr int kGroups = 2;     // warp groups that multiply; another one brings
constexpr int kHalves = 2;     // of the rows of weights that a block has
constexpr int kTileRows = 64;  // that a warp group has of each
constexpr int kHalfRows = kGroups * kTileRows;
constexpr int kRows = kHalves * kHalfRows;
constexpr int kStages = 4;
constexpr int kAlignment = 1024;
constexpr int kBringRegisters = 40, kMultiplyRegisters = 232, kFirstRegisters = 168;
static_assert(kBringRegisters + kGroups * kMultiplyRegisters <= (kGroups + 1) * kFirstRegisters);
constexpr int kPrepareThreads = 128;

struct BoxedExperts {
  Experts experts;
  TensorBoxes weights;
  TensorBoxes choices;
};

struct Memory {
  unsigned char weights[kStages][kRows * kLineBytes];
  unsigned char choices[kStages][kTileChoices * kLineBytes];
  Stages<kStages> stages;
};

// x as it enters the products, sorted by expert, for all choices that are here.
__global__ void __launch_bounds__(kPrepareThreads) sort_rows(const __grid_constant__ Experts of) {
  const MoeExpertsArgs& args = of.args;
  const int64_t place = blockIdx.x, width = dim(args.x, 1);
  const auto* offsets = reinterpret_cast<const int32_t*>(of.region(of.at.offsets));
  const auto* order = reinterpret_cast<const int32_t*>(of.region(of.at.order));
  if (place >= offsets[args.gate_up.experts]) return;
  const float* from = row<const float>(args.x, order[place] / dim(args.expert_ids, 1));
  auto* to = reinterpret_cast<__nv_bfloat16*>(of.region(of.at.inputs)) + place * width;
  const bool in_fours = reinterpret_cast<uintptr_t>(from) % 16 == 0;
  for (int64_t e = threadIdx.x * 4; e < width; e += kPrepareThreads * 4) {  // whole fours: goes_in_boxes()
    float four[4];
    if (in_fours) {
      *reinterpret_cast<float4*>(four) = *reinterpret_cast<const float4*>(from + e);
    } else {
      for (int i = 0; i < 4; ++i) four[i] = from[e + i];
    }
    __nv_bfloat16 rounded[4];
    for (int i = 0; i < 4; ++i) rounded[i] = from_float<__nv_bfloat16>(four[i]);
    *reinterpret_cast<uint2*>(to + e) = *reinterpret_cast<const uint2*>(rounded);
  }
}

// By one thread: all boxes of a tile of choices, with the rows of weights from these two on.
__device__ void bring(const BoxedExperts& of, const ChoiceTile& tile, const int (&rows)[kHalves], int steps,
                      Memory& memory) {
  constexpr int kBytes = (kRows + kTileChoices) * kLineBytes;
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    const int stage = memory.stages.of(step), input = step * kLineElements;
    BlockBarrier& came = memory.stages.came(step);
    memory.stages.await_free(step);
    came.arrive_expecting(kBytes);
    for (int half = 0; half < kHalves; ++half) {
      copy_box(of.weights, {input, rows[half], static_cast<int>(tile.expert)},
               memory.weights[stage] + half * kHalfRows * kLineBytes, came);
    }
    copy_box(of.choices, {input, static_cast<int>(tile.first)}, memory.choices[stage], came);
  }
}

// Sums of a warp group's rows of each half with N choices.
template <int N>
using Sums = float[kHalves][N / 2];

template <int N>
__device__ void multiply(Memory& memory, int steps, Sums<N>& sums) {
  const int group = static_cast<int>(threadIdx.x) / kGroupThreads;
  for (auto& tile : sums) keep_products(tile);
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    const int stage = memory.stages.of(step);
    memory.stages.await(step);
    const Operand weights = operand_at(memory.weights[stage] + group * kTileRows * kLineBytes);
    const Operand choices = operand_at(memory.choices[stage]);
    begin_products();
#pragma unroll
    for (int k = 0; k < kLineElements / 16; ++k) {
#pragma unroll
      for (int half = 0; half < kHalves; ++half) {
        multiply_lines(sums[half], weights.behind(half * kHalfRows * kLineBytes + k * 32),
                       choices.behind(k * 32), true);
      }
    }
    commit_products();
    await_products<1>();
    if (step > 0) memory.stages.leave(step - 1);
  }
  await_products();
  for (auto& tile : sums) keep_products(tile);
}

// Calls keep(row, choice, sum, sum of the other half) for this thread's sums; rows are those of a half.
template <int N, typename Keep>
__device__ void for_sums(const Sums<N>& sums, Keep&& keep) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
#pragma unroll
  for (int i = 0; i < N / 2; ++i)
    keep(warp * 16 + lane / 4 + i / 2 % 2 * 8, i / 4 * 8 + lane % 4 * 2 + i % 2, sums[0][i], sums[1][i]);
}

// Threads that bring end here, and true says that this one multiplies.
template <typename Bring>
__device__ bool begins(Memory& memory, Bring&& bring_all) {
  if (threadIdx.x == 0) {
    memory.stages.begin(1, kGroups * kGroupThreads / kWarp);
    show_to_matrix_units();  // and to copies
  }
  __syncthreads();
  if (threadIdx.x < kGroups * kGroupThreads) {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kMultiplyRegisters));
    return true;
  }
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kBringRegisters));
  if (threadIdx.x == kGroups * kGroupThreads) bring_all();
  return false;
}

__device__ Memory& memory_of_block() {
  extern __shared__ unsigned char shared[];
  const auto base = reinterpret_cast<uintptr_t>(shared);
  return *reinterpret_cast<Memory*>(shared + (kAlignment - base % kAlignment) % kAlignment);
}

// Calls body<choices>() with as few choices as take `count`.
template <typename Body>
__device__ void with_choices(int count, Body&& body) {
  if (count <= kTileChoices / 2) {
    body.template operator()<kTileChoices / 2>();
  } else {
    body.template operator()<kTileChoices>();
  }
}

// A block does 128 of the activations of one expert. Blocks that share choices are neighbours, and those that
// share weights come soon.
__global__ void __launch_bounds__((kGroups + 1) * kGroupThreads, 1)
    gate_and_up(const __grid_constant__ BoxedExperts of) {
  Memory& memory = memory_of_block();
  await_launches();
  const MoeExpertsArgs& args = of.experts.args;
  const auto width = static_cast<int>(args.down.k);
  const int parts = (width + kHalfRows - 1) / kHalfRows;
  const int first = static_cast<int>(blockIdx.x) % parts * kHalfRows;
  const ChoiceTile tile(of.experts, blockIdx.x / parts);
  if (tile.expert < 0) return;
  const int steps = static_cast<int>((args.gate_up.k + kLineElements - 1) / kLineElements);
  if (!begins(memory, [&] { bring(of, tile, {first, width + first}, steps, memory); })) return;
  auto* to = reinterpret_cast<__nv_bfloat16*>(of.experts.region(of.experts.at.activation));
  with_choices(tile.count, [&]<int N>() {
    Sums<N> sums = {};
    multiply<N>(memory, steps, sums);
    for_sums<N>(sums, [&](int row, int choice, float gate, float up) {
      const int f = first + row;
      if (choice < tile.count && f < width) to[(tile.first + choice) * width + f] = activation_of(gate, up);
    });
  });
}

// A block does 256 of the outputs of one expert.
__global__ void __launch_bounds__((kGroups + 1) * kGroupThreads, 1)
    down(const __grid_constant__ BoxedExperts of) {
  Memory& memory = memory_of_block();
  await_launches();
  const MoeExpertsArgs& args = of.experts.args;
  const auto width = static_cast<int>(args.down.n);
  const int parts = (width + kRows - 1) / kRows, first = static_cast<int>(blockIdx.x) % parts * kRows;
  const ChoiceTile tile(of.experts, blockIdx.x / parts);
  if (tile.expert < 0) return;
  const int steps = static_cast<int>((args.down.k + kLineElements - 1) / kLineElements);
  if (!begins(memory, [&] { bring(of, tile, {first, first + kHalfRows}, steps, memory); })) return;
  const auto* order = reinterpret_cast<const int32_t*>(of.experts.region(of.experts.at.order)) + tile.first;
  float* products = of.experts.region(of.experts.at.products);
  with_choices(tile.count, [&]<int N>() {
    Sums<N> sums = {};
    multiply<N>(memory, steps, sums);
    for_sums<N>(sums, [&](int row, int choice, float sum, float other) {
      if (choice >= tile.count) return;
      float* to = products + int64_t{order[choice]} * width + first + row;
      if (first + row < width) to[0] = sum;
      if (first + row + kHalfRows < width) to[kHalfRows] = other;
    });
  });
}

// Boxes of 128 choices whose numbers lie side by side in the workspace.
TensorBoxes choice_boxes(const MoeExpertsArgs& args, int64_t offset, int64_t width, CudaQueue& queue) {
  return boxes_of(BoxedTensor<2>{.data = static_cast<const char*>(args.workspace.data) + offset,
                                 .sizes = {width, args.expert_ids.elements()},
                                 .strides = {1, width},
                                 .box = {kLineElements, kTileChoices}},
                  queue);
}

// Boxes of 128 rows of an expert's weights.
TensorBoxes weight_boxes(const PackedWeight& weight, CudaQueue& queue) {
  return boxes_of(BoxedTensor<3>{.data = weight.data,
                                 .sizes = {weight.k, weight.n, weight.experts},
                                 .strides = {1, weight.k, weight.expert_stride},
                                 .box = {kLineElements, kHalfRows, 1}},
                  queue);
}

// `inputs`: where those of the choices lie in the workspace.
void launch_tiles(const Worker& worker, void (*kernel)(BoxedExperts), const MoeExpertsArgs& args,
                  const PackedWeight& weight, int64_t inputs) {
  auto& queue = *static_cast<CudaQueue*>(worker.queue);
  const size_t bytes = sizeof(Memory) + kAlignment;
  allow_shared(worker, kernel, bytes);
  const bool in_pairs = &weight == &args.gate_up;
  const int64_t blocks = in_pairs ? blocks_for(weight.n / 2, kHalfRows) : blocks_for(weight.n, kRows);
  launch_early(worker, kernel, {blocks_of(most_tiles(args) * blocks), (kGroups + 1) * kGroupThreads, bytes},
               {{args, moe_workspace(args)},
                weight_boxes(weight, queue),
                choice_boxes(args, inputs, weight.k, queue)});
}

// Whether experts have so many choices, when a batch of this shape is full, that this is faster: one each, on
// average.
bool goes_in_boxes(const MoeExpertsArgs& args) {
  const int64_t experts = args.experts > 0 ? args.experts : args.gate_up.experts;
  return goes_in_groups(args) && args.expert_ids.elements() >= experts;
}

}  // namespace

void moe_prepare(const MoeExpertsArgs& args, Worker worker) {
  if (!goes_in_boxes(args)) return moe_prepare_by_row(args, worker);
  launch_grid(worker, sort_rows, {blocks_of(args.expert_ids.elements()), kPrepareThreads},
              {args, moe_workspace(args)});
}

void moe_gate_up(const MoeExpertsArgs& args, Worker worker) {
  if (!goes_in_boxes(args)) return moe_gate_up_by_row(args, worker);
  launch_tiles(worker, gate_and_up, args, args.gate_up, moe_workspace(args).inputs);
}

void moe_down(const MoeExpertsArgs& args, Worker worker) {
  if (!goes_in_boxes(args)) return moe_down_by_row(args, worker);
  launch_tiles(worker, down, args, args.down, moe_workspace(args).activation);
}

}  // namespace lockstep::cuda
