// Mixture of experts: choose experts per row, run each chosen expert on its rows, sum per row.
#pragma once

#include "base/units.h"
#include "kernels/common/launcher.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/packed_weight.h"
#include "tensor/op_spec.h"

namespace lockstep {

// p = softmax over all X of the row's logits, f32; the k largest become expert_ids, by descending p;
// expert_weights are their p, divided by their sum when `normalise`. The order is taken from the logits, of
// which p is an increasing function (ties: the lower expert), so the choice depends on no kernel's rounding.
struct MoeRouteArgs {
  TensorView logits;          // [T, X] f32
  TensorView expert_ids;      // [T, k] i32; pad rows: -1
  TensorView expert_weights;  // [T, k] f32; pad rows: 0
  const LiveRows* num_rows = nullptr;
  bool normalise = true;
};

// out[t] = sum over j of expert_weights[t, j] * down_e( silu(gate_e x[t]) * up_e x[t] ),  e = expert_ids[t,
// j], summed in the order of j. Ids of -1 take no expert; any other id outside [0, X) can only come from a
// broken plan and gives that row NaN.
struct MoeExpertsArgs {
  TensorView x;               // [T, E] f32
  PackedWeight gate_up;       // [X][2F, E]: gate rows, then up rows
  PackedWeight down;          // [X][E, F]
  TensorView expert_ids;      // [T, k] i32
  TensorView expert_weights;  // [T, k] f32
  TensorView out;             // [T, E] f32
  TensorView workspace;       // u8, at least moe_workspace_bytes(...)
  const LiveRows* num_rows = nullptr;
  MatmulInput input = MatmulInput::kF32;
};

inline constexpr OpArg kMoeRouteArgs[] = {
    {.name = "logits", .access = Access::kRead, .dims = "TX"},
    {.name = "expert_ids", .access = Access::kWrite, .dims = "Tk"},
    {.name = "expert_weights", .access = Access::kWrite, .dims = "Tk"},
    {.name = "num_rows", .access = Access::kRead, .dims = "", .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kMoeRouteSpec{.name = "moe_route", .args = kMoeRouteArgs};

inline constexpr OpArg kMoeExpertsArgs[] = {
    {.name = "x", .access = Access::kRead, .dims = "TE"},
    {.name = "gate_up", .access = Access::kRead, .dims = "XGE", .rows = RowsTouched::kNone},
    {.name = "down", .access = Access::kRead, .dims = "XEF", .rows = RowsTouched::kNone},
    {.name = "expert_ids", .access = Access::kRead, .dims = "Tk"},
    {.name = "expert_weights", .access = Access::kRead, .dims = "Tk"},
    {.name = "out", .access = Access::kWrite, .dims = "TE"},
    {.name = "workspace", .access = Access::kReadWrite, .dims = "W", .rows = RowsTouched::kNone},
    {.name = "num_rows", .access = Access::kRead, .dims = "", .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kMoeExpertsSpec{.name = "moe_experts",
                                        .args = kMoeExpertsArgs,
                                        .workspace = "moe_workspace_bytes: sorted rows, F and E per choice"};

// Bytes of workspace for T rows of `choices` experts each, of `experts`, E = width, F = expert_width.
int64_t moe_workspace_bytes(int64_t rows, int64_t choices, int64_t experts, int64_t width,
                            int64_t expert_width);

// Pad rows take no expert and come out as -1 and 0. A NaN logit gives that row weights of NaN and valid ids.
// Errors: kInvalidArgument (k > X, shapes). Cost: one launch.
Status moe_route(const Launcher& on, const MoeRouteArgs& args, std::string_view stage);

// Identity: as linear; a row's sum over its choices is its own, so batch mates do not matter.
//           MatmulInput::kBF16 rounds x and, before the down projection, silu(gate) * up.
// Errors:   kInvalidArgument for shapes, dtypes, layouts or a workspace that do not fit.
// Cost:     up to five launches; each chosen expert's weights are read once per call.
// Source:   Shazeer et al. 2017, Outrageously Large Neural Networks; Gale et al. 2022, MegaBlocks (grouped
//           products).
Status moe_experts(const Launcher& on, const MoeExpertsArgs& args, std::string_view stage);

}  // namespace lockstep
