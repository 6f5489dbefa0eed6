// What the launches of one call of moe_experts share on the device.
#pragma once

#include "kernels/common/device_math.cuh"
#include "kernels/moe/moe_kernels.h"

namespace lockstep::cuda {

// Where the launches of one call keep what passes between them.
struct Experts {
  MoeExpertsArgs args;
  MoeWorkspace at;

  __device__ float* region(int64_t offset) const {
    return reinterpret_cast<float*>(static_cast<char*>(args.workspace.data) + offset);
  }
  // The matrix of a choice: as moe_matrix(), and kNotHere behind the live rows.
  __device__ int64_t matrix_of(int64_t t, int64_t j) const {
    const int64_t rows = dim(args.x, 0);
    if (args.rows == MoeRows::kLiveFirst && t >= live(args.num_rows, rows)) return kNotHere;
    const int64_t id = row<const int32_t>(args.expert_ids, t)[j];
    const int64_t experts = args.experts > 0 ? args.experts : args.gate_up.experts;
    if (id < -1 || id >= experts) return kNoExpert;
    const int64_t matrix = id - args.first_expert;
    return id >= 0 && matrix >= 0 && matrix < args.gate_up.experts ? matrix : kNotHere;
  }
};

// Whether rows are sorted by expert and multiplied in groups: bf16 on both sides, in whole vectors. Decides
// about bits, so it looks at nothing that batch mates change.
bool goes_in_groups(const MoeExpertsArgs& args);
void grouped_gate_up(const MoeExpertsArgs& args, const Worker& worker);
void grouped_down(const MoeExpertsArgs& args, const Worker& worker);

}  // namespace lockstep::cuda
