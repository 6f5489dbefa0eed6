// The kernels of moe_route and moe_experts, one set per instruction set, and how they share the workspace.
// Every set computes kRowMajor weights with the reference kernels, as linear does.
#pragma once

#include "kernels/common/live_rows.h"
#include "kernels/moe/moe.h"

namespace lockstep {

// Where moe_experts keeps what passes from launch to launch: byte offsets into the workspace, each on a cache
// line. A choice is a pair (row t, j), numbered t * choices + j.
struct MoeWorkspace {
  int64_t offsets;     // i32 [X + 1]: where each expert's choices begin in the sorted order
  int64_t order;       // i32 [T * k]: choices by expert, within an expert by number
  int64_t inputs;      // [T * k, E]: x as it enters the product, in sorted order
  int64_t activation;  // [T * k, F]: silu(gate) * up as it enters the down projection, sorted as inputs are
  int64_t products;    // f32 [T * k, E]: by choice
  int64_t bytes;
};

MoeWorkspace moe_workspace(int64_t choices, int64_t experts, int64_t width, int64_t expert_width);
MoeWorkspace moe_workspace(const MoeExpertsArgs& args);

// Rows of x that may choose an expert; from there on there are pads alone.
[[gnu::always_inline]] inline int64_t moe_rows(const MoeExpertsArgs& args) {
  return args.rows == MoeRows::kOfRanks ? args.x.dim(0) : live_rows(args.num_rows, args.x.dim(0));
}

// Which of the matrices that are here an id means; or none of them, or nothing that an id may mean.
inline constexpr int64_t kNotHere = -1;
inline constexpr int64_t kNoExpert = -2;
[[gnu::always_inline]] inline int64_t moe_matrix(const MoeExpertsArgs& args, int32_t id) {
  const int64_t experts = args.experts > 0 ? args.experts : args.gate_up.experts;
  if (id < -1 || id >= experts) return kNoExpert;
  const int64_t matrix = int64_t{id} - args.first_expert;
  return id >= 0 && matrix >= 0 && matrix < args.gate_up.experts ? matrix : kNotHere;
}

// Fills `offsets` and `order`: what every set but the oracle begins with.
void moe_sort(const MoeExpertsArgs& args, Worker worker);

}  // namespace lockstep

namespace lockstep::reference {
void moe_route(const MoeRouteArgs& args, Worker worker);
void moe_gate_up(const MoeExpertsArgs& args, Worker worker);
void moe_down(const MoeExpertsArgs& args, Worker worker);
void moe_combine(const MoeExpertsArgs& args, Worker worker);
}  // namespace lockstep::reference

namespace lockstep::avx2 {
void moe_route(const MoeRouteArgs& args, Worker worker);
void moe_prepare(const MoeExpertsArgs& args, Worker worker);
void moe_gate_up(const MoeExpertsArgs& args, Worker worker);
void moe_down(const MoeExpertsArgs& args, Worker worker);
void moe_combine(const MoeExpertsArgs& args, Worker worker);
}  // namespace lockstep::avx2

namespace lockstep::avx512 {
void moe_route(const MoeRouteArgs& args, Worker worker);
void moe_prepare(const MoeExpertsArgs& args, Worker worker);
void moe_gate_up(const MoeExpertsArgs& args, Worker worker);
void moe_down(const MoeExpertsArgs& args, Worker worker);
void moe_combine(const MoeExpertsArgs& args, Worker worker);
}  // namespace lockstep::avx512

namespace lockstep::avx512bf16 {
void moe_prepare(const MoeExpertsArgs& args, Worker worker);
void moe_gate_up(const MoeExpertsArgs& args, Worker worker);
void moe_down(const MoeExpertsArgs& args, Worker worker);
}  // namespace lockstep::avx512bf16
