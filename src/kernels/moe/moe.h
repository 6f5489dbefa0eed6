// Mixture of experts: choose experts per row, run each chosen expert on its rows, sum per row.
#pragma once

#include <array>

#include "base/units.h"
#include "kernels/common/launcher.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/packed_weight.h"
#include "tensor/op_spec.h"

namespace lockstep {

// What a router makes of its logits.
enum class MoeScoring : uint8_t { kSoftmax, kSigmoid };

// kSoftmax: p = softmax over all X of the row's logits, f32; the k largest become expert_ids, by descending
// p; expert_weights are their p, divided by their sum when `normalise`. The order is taken from the logits,
// of which p is an increasing function (ties: the lower expert), so the choice depends on no kernel's
// rounding. kSigmoid: p = sigmoid(logits), f32; the k largest of p + bias (f32) are chosen, by descending p +
// bias (ties: the lower expert); expert_weights are their p without the bias, divided by their sum, added in
// that order, when `normalise`. Here the order is that of rounded numbers, so how they round is part of the
// definition: routing_sigmoid() (moe_sigmoid.h) is one sequence of IEEE operations, of which every kernel
// gives the bits.
struct MoeRouteArgs {
  TensorView logits;          // [T, X] f32
  TensorView bias;            // [X] f32, with kSigmoid alone; null: zeros
  TensorView expert_ids;      // [T, k] i32; pad rows: -1
  TensorView expert_weights;  // [T, k] f32; pad rows: 0
  const LiveRows* num_rows = nullptr;
  MoeScoring scoring = MoeScoring::kSoftmax;
  bool normalise = true;
};

// Where the live rows of x are.
enum class MoeRows : uint8_t {
  kLiveFirst,  // they come first, and num_rows counts them
  kOfRanks,    // those of several ranks one behind the other, each with pads at its end. No count says which
             // rows are live: a pad row's ids are all -1, as moe_route leaves them, so it comes out as zeros
};

// out[t] = sum over j of expert_weights[t, j] * down_e( silu(gate_e x[t]) * up_e x[t] ),  e = expert_ids[t,
// j], summed in the order of j. Ids of -1 take no expert; any other id outside [0, experts) can only come
// from a broken plan and gives that row NaN. The weights may be those of a range of the experts: then others
// add nothing, and the sum over the ranks is the whole.
struct MoeExpertsArgs {
  TensorView x;                        // [T, E] f32
  PackedWeight gate_up;                // [X][2F, E]: gate rows, then up rows
  PackedWeight down;                   // [X][E, F]
  TensorView expert_ids;               // [T, k] i32
  TensorView expert_weights;           // [T, k] f32
  TensorView out;                      // [T, E] f32
  TensorView workspace;                // u8, at least moe_workspace_bytes(...)
  const LiveRows* num_rows = nullptr;  // null where rows are kOfRanks
  int32_t first_expert = 0;            // the id of the first of the X that are here
  int32_t experts = 0;                 // ids that there are; 0: X
  MatmulInput input = MatmulInput::kF32;
  MoeRows rows = MoeRows::kLiveFirst;
};

inline constexpr OpArg kMoeRouteArgs[] = {
    {LS_ARG(MoeRouteArgs, logits), .access = Access::kRead, .dims = "TX", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(MoeRouteArgs, bias), .access = Access::kRead, .dims = "X", .rows = RowsTouched::kNone},
    {LS_ARG(MoeRouteArgs, expert_ids), .access = Access::kWrite, .dims = "Tk", .pad = PadRows::kSkip,
     .any_stride = true},
    {LS_ARG(MoeRouteArgs, expert_weights), .access = Access::kWrite, .dims = "Tk", .any_stride = true},
    {LS_ARG(MoeRouteArgs, num_rows), .rows = RowsTouched::kNone},
    {LS_ARG(MoeRouteArgs, scoring), .rows = RowsTouched::kNone},
    {LS_ARG(MoeRouteArgs, normalise), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kMoeRouteSpec{
    .name = "moe_route", .args = kMoeRouteArgs, .args_bytes = sizeof(MoeRouteArgs)};

// What one of the launches of moe_experts touches, of all instruction sets together; the rest is carried
// along.
struct MoeTouches {
  Access x = Access::kNone;
  Access gate_up = Access::kNone;
  Access down = Access::kNone;
  Access expert_ids = Access::kNone;
  Access expert_weights = Access::kNone;
  Access out = Access::kNone;
  Access workspace = Access::kNone;
  Access num_rows = Access::kNone;
};
constexpr std::array<OpArg, 12> moe_args(const MoeTouches& touches) {
  return {{
      {LS_ARG(MoeExpertsArgs, x), .access = touches.x, .dims = "TE", .rows = RowsTouched::kLive,
       .any_stride = true},
      {LS_ARG(MoeExpertsArgs, gate_up), .access = touches.gate_up, .dims = "XGE", .rows = RowsTouched::kNone},
      {LS_ARG(MoeExpertsArgs, down), .access = touches.down, .dims = "XEF", .rows = RowsTouched::kNone},
      {LS_ARG(MoeExpertsArgs, expert_ids), .access = touches.expert_ids, .dims = "Tk",
       .rows = RowsTouched::kLive, .any_stride = true},
      {LS_ARG(MoeExpertsArgs, expert_weights), .access = touches.expert_weights, .dims = "Tk",
       .rows = RowsTouched::kLive, .any_stride = true},
      {LS_ARG(MoeExpertsArgs, out), .access = touches.out, .dims = "TE", .any_stride = true},
      {LS_ARG(MoeExpertsArgs, workspace), .access = touches.workspace, .dims = "W",
       .rows = RowsTouched::kNone},
      {LS_ARG(MoeExpertsArgs, num_rows), .access = touches.num_rows, .rows = RowsTouched::kNone},
      {LS_ARG(MoeExpertsArgs, first_expert), .rows = RowsTouched::kNone},
      {LS_ARG(MoeExpertsArgs, experts), .rows = RowsTouched::kNone},
      {LS_ARG(MoeExpertsArgs, input), .rows = RowsTouched::kNone},
      {LS_ARG(MoeExpertsArgs, rows), .rows = RowsTouched::kNone},
  }};
}
constexpr OpSpec moe_spec(std::string_view name, std::span<const OpArg> args) {
  return {.name = name,
          .args = args,
          .args_bytes = sizeof(MoeExpertsArgs),
          .workspace = "moe_workspace_bytes: sorted rows, F and E per choice"};
}
inline constexpr auto kMoeSortArgs =
    moe_args({.expert_ids = Access::kRead, .workspace = Access::kWrite, .num_rows = Access::kRead});
inline constexpr OpSpec kMoeSortSpec = moe_spec("moe_sort", kMoeSortArgs);
inline constexpr auto kMoePrepareArgs = moe_args({.x = Access::kRead, .workspace = Access::kReadWrite});
inline constexpr OpSpec kMoePrepareSpec = moe_spec("moe_prepare", kMoePrepareArgs);
inline constexpr auto kMoeGateUpArgs = moe_args({.x = Access::kRead,
                                                 .gate_up = Access::kRead,
                                                 .expert_ids = Access::kRead,
                                                 .workspace = Access::kReadWrite,
                                                 .num_rows = Access::kRead});
inline constexpr OpSpec kMoeGateUpSpec = moe_spec("moe_gate_up", kMoeGateUpArgs);
inline constexpr auto kMoeDownArgs = moe_args({.down = Access::kRead,
                                               .expert_ids = Access::kRead,
                                               .workspace = Access::kReadWrite,
                                               .num_rows = Access::kRead});
inline constexpr OpSpec kMoeDownSpec = moe_spec("moe_down", kMoeDownArgs);
inline constexpr auto kMoeCombineArgs = moe_args({.expert_ids = Access::kRead,
                                                  .expert_weights = Access::kRead,
                                                  .out = Access::kWrite,
                                                  .workspace = Access::kRead,
                                                  .num_rows = Access::kRead});
inline constexpr OpSpec kMoeCombineSpec = moe_spec("moe_combine", kMoeCombineArgs);

// Bytes of workspace for T rows of `choices` experts each, of `experts` that are here, E = width, F =
// expert_width.
int64_t moe_workspace_bytes(int64_t rows, int64_t choices, int64_t experts, int64_t width,
                            int64_t expert_width);

// Pad rows take no expert and come out as -1 and 0. A NaN logit or bias gives the row weights of NaN and
// valid ids; so do chosen scores of no weight at all, whose quotients are 0 / 0. Errors: kInvalidArgument (k
// > X, shapes, a bias with kSoftmax). Cost: one launch.
Status moe_route(const Launcher& on, const MoeRouteArgs& args, std::string_view stage);

// Identity: as linear; a row's sum over its choices is its own, so batch mates do not matter. On a device,
//           without batch_invariant_table(), an expert's sums follow from the shape of the batch.
//           MatmulInput::kBF16 rounds x and, before the down projection, silu(gate) * up.
// Errors:   kInvalidArgument for shapes, dtypes, layouts, a range of experts or a workspace that do not fit.
// Cost:     up to five launches; each chosen expert's weights are read once per call.
// Source:   Shazeer et al. 2017, Outrageously Large Neural Networks; Gale et al. 2022, MegaBlocks (grouped
//           products).
Status moe_experts(const Launcher& on, const MoeExpertsArgs& args, std::string_view stage);

}  // namespace lockstep
