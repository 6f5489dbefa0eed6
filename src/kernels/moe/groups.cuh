// What products of an expert's weights with the rows that chose it have in common. A choice is a column of a
// product. Its inputs are taken in steps, the steps in quarters; a quarter is added up step by step, and the
// quarters are joined in their order. Whoever keeps to that gives a choice the same bits, whatever else he
// multiplies.
#pragma once

#include "kernels/common/device_math.cuh"
#include "kernels/moe/experts.cuh"

namespace lockstep::cuda {

inline constexpr int kQuarters = 4;  // of the inputs
inline constexpr int kTile = 16;     // outputs
inline constexpr int kStep = 32;     // inputs
inline constexpr int kGroup = 8;     // choices of one product

inline int64_t blocks_for(int64_t outputs, int64_t each) { return (outputs + each - 1) / each; }

// Half a step of a tile of outputs and a group of choices. A lane brings eight neighbouring inputs of two
// outputs, `lane / 4` and the one 8 behind it, and of one choice, for both halves: which inputs are called
// neighbours does not matter as long as both sides do the same.
__device__ inline void multiply_add(float (&sums)[4], uint4 a, uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}

__device__ inline __nv_bfloat16 activation_of(float gate, float up) {
  return from_float<__nv_bfloat16>(gate / (1.0f + expf(-gate)) * up);
}

// Whether an expert has so many choices, when a batch of this shape is full, that tiles of many choices and
// weights that a block shares are faster. The bits are the same.
bool goes_in_wide_tiles(const MoeExpertsArgs& args);
void wide_gate_up(const MoeExpertsArgs& args, const Worker& worker);
void wide_down(const MoeExpertsArgs& args, const Worker& worker);

}  // namespace lockstep::cuda
