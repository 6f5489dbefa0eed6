// Gated delta rule: linear attention with a decaying, error-correcting state per value head.
//   beta = sigmoid(b), g = -exp(A_log) * softplus(a + dt_bias), q and k l2-normalised per head (eps 1e-6
//   inside the sum of squares), q scaled by Dk^-1/2; value head h reads key head h / (Hv / Hk). With S [Dk,
//   Dv]: S <- exp(g) S;  delta = beta (v - Sᵀ k);  S <- S + k deltaᵀ;  out = Sᵀ q
#pragma once

#include "base/units.h"
#include "kernels/common/launcher.h"
#include "kernels/linear/linear.h"
#include "tensor/op_spec.h"
#include "tensor/tensor.h"

namespace lockstep {

struct GatedDeltaArgs {
  TensorView q;                  // [T, Hk, Dk] f32, any stride of T and Hk
  TensorView k;                  // [T, Hk, Dk] f32, any stride of T and Hk
  TensorView v;                  // [T, Hv, Dv] f32, any stride of T and Hv
  TensorView b;                  // [T, Hv] f32, any stride of T
  TensorView a;                  // [T, Hv] f32, any stride of T
  TensorView a_log;              // [Hv] f32
  TensorView dt_bias;            // [Hv] f32
  TensorView state;              // [N, Hv, Dk, Dv] f32, any stride of N: state slots; slot 0 is the pad state
  TensorView query_start_loc;    // [S + 1] i32
  TensorView state_read_slot;    // [S] i32
  TensorView state_write_slots;  // [T] i32: the state after row t goes there; -1: nowhere
  TensorView has_initial_state;  // [S] i32
  TensorView out;                // [T, Hv, Dv] f32
  TensorView workspace;          // u8, at least gated_delta_workspace_bytes(...)
  const LiveRows* num_rows = nullptr;
  const LiveSeqs* num_seqs = nullptr;
  // kBF16: q, k and what products are made of may be rounded to bf16 on the way into them.
  MatmulInput input = MatmulInput::kF32;
  int32_t query_len = 0;  // rows of every sequence that has any; 0: they differ
};

inline constexpr OpArg kGatedDeltaArgs[] = {
    {LS_ARG(GatedDeltaArgs, q), .access = Access::kRead, .dims = "THD", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(GatedDeltaArgs, k), .access = Access::kRead, .dims = "THD", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(GatedDeltaArgs, v), .access = Access::kRead, .dims = "TGE", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(GatedDeltaArgs, b), .access = Access::kRead, .dims = "TG", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(GatedDeltaArgs, a), .access = Access::kRead, .dims = "TG", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(GatedDeltaArgs, a_log), .access = Access::kRead, .dims = "G", .rows = RowsTouched::kNone},
    {LS_ARG(GatedDeltaArgs, dt_bias), .access = Access::kRead, .dims = "G", .rows = RowsTouched::kNone},
    {LS_ARG(GatedDeltaArgs, state), .access = Access::kReadWrite, .dims = "NGDE", .rows = RowsTouched::kOwned,
     .pad = PadRows::kUntouched, .outer_stride = true},
    {LS_ARG(GatedDeltaArgs, query_start_loc), .access = Access::kRead, .dims = "S1",
     .rows = RowsTouched::kLive},
    {LS_ARG(GatedDeltaArgs, state_read_slot), .access = Access::kRead, .dims = "S",
     .rows = RowsTouched::kLive},
    {LS_ARG(GatedDeltaArgs, state_write_slots), .access = Access::kRead, .dims = "T",
     .rows = RowsTouched::kLive},
    {LS_ARG(GatedDeltaArgs, has_initial_state), .access = Access::kRead, .dims = "S",
     .rows = RowsTouched::kLive},
    {LS_ARG(GatedDeltaArgs, out), .access = Access::kWrite, .dims = "TGE", .any_stride = true},
    {LS_ARG(GatedDeltaArgs, workspace), .access = Access::kWrite, .dims = "W", .rows = RowsTouched::kNone},
    {LS_ARG(GatedDeltaArgs, num_rows), .rows = RowsTouched::kNone},
    {LS_ARG(GatedDeltaArgs, num_seqs), .rows = RowsTouched::kNone},
    {LS_ARG(GatedDeltaArgs, input), .rows = RowsTouched::kNone},
    {LS_ARG(GatedDeltaArgs, query_len), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kGatedDeltaSpec{.name = "gated_delta",
                                        .args = kGatedDeltaArgs,
                                        .args_bytes = sizeof(GatedDeltaArgs),
                                        .workspace = "gated_delta_workspace_bytes, gated_delta_device_bytes"};

// Of some of a step's sequences: rows of the others stay what they are.
inline constexpr OpArg kGatedDeltaPartArgs[] = {
    {LS_ARG(GatedDeltaArgs, q), .access = Access::kRead, .dims = "THD", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(GatedDeltaArgs, k), .access = Access::kRead, .dims = "THD", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(GatedDeltaArgs, v), .access = Access::kRead, .dims = "TGE", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(GatedDeltaArgs, b), .access = Access::kRead, .dims = "TG", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(GatedDeltaArgs, a), .access = Access::kRead, .dims = "TG", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(GatedDeltaArgs, a_log), .access = Access::kRead, .dims = "G", .rows = RowsTouched::kNone},
    {LS_ARG(GatedDeltaArgs, dt_bias), .access = Access::kRead, .dims = "G", .rows = RowsTouched::kNone},
    {LS_ARG(GatedDeltaArgs, state), .access = Access::kReadWrite, .dims = "NGDE", .rows = RowsTouched::kOwned,
     .pad = PadRows::kUntouched, .outer_stride = true},
    {LS_ARG(GatedDeltaArgs, query_start_loc), .access = Access::kRead, .dims = "S1",
     .rows = RowsTouched::kLive},
    {LS_ARG(GatedDeltaArgs, state_read_slot), .access = Access::kRead, .dims = "S",
     .rows = RowsTouched::kLive},
    {LS_ARG(GatedDeltaArgs, state_write_slots), .access = Access::kRead, .dims = "T",
     .rows = RowsTouched::kLive},
    {LS_ARG(GatedDeltaArgs, has_initial_state), .access = Access::kRead, .dims = "S",
     .rows = RowsTouched::kLive},
    {LS_ARG(GatedDeltaArgs, out), .access = Access::kReadWrite, .dims = "TGE", .any_stride = true},
    {LS_ARG(GatedDeltaArgs, workspace), .access = Access::kWrite, .dims = "W", .rows = RowsTouched::kNone},
    {LS_ARG(GatedDeltaArgs, num_rows), .rows = RowsTouched::kNone},
    {LS_ARG(GatedDeltaArgs, num_seqs), .rows = RowsTouched::kNone},
    {LS_ARG(GatedDeltaArgs, input), .rows = RowsTouched::kNone},
    {LS_ARG(GatedDeltaArgs, query_len), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kGatedDeltaPartSpec{
    .name = "gated_delta_part",
    .args = kGatedDeltaPartArgs,
    .args_bytes = sizeof(GatedDeltaArgs),
    .workspace = "gated_delta_workspace_bytes, gated_delta_device_bytes"};

// Scratch per thread for one chunk of one value head.
int64_t gated_delta_workspace_bytes(int threads, int64_t key_dim, int64_t value_dim);
// On a device where input is kBF16: what the chunks of T rows hand on.
int64_t gated_delta_device_bytes(int64_t rows, int64_t key_heads, int64_t value_heads, int64_t key_dim);

// A sequence of one row, or with a write slot before its last row, goes row by row; longer ones go in chunks
// of 64 rows counted from the sequence's first row of the step (Yang et al. 2024, Gated Delta Networks,
// chunkwise form). The choice depends on the sequence alone, so batch mates do not matter.
// On CUDA: as exact as f32, row by row in pairs counted from there, unless input is kBF16. Then chunks run on
// matrix units where Dk is 64 or 128, Dv a multiple of 32, and rows of q, k and v are vectors of 16 bytes:
// q, k, S and what changes it enter products rounded to bf16; sums and states stay f32. A NaN may reach
// earlier rows of its own chunk there.
// Dtypes: all f32, states too. Pad rows of out are zero; pad states are untouched.
// Errors: kInvalidArgument (Hv % Hk, shapes, workspace). Cost: one launch.
Status gated_delta(const Launcher& on, const GatedDeltaArgs& args, std::string_view stage);
// The same of the sequences that query_start_loc, state_read_slot and has_initial_state have, a run of those
// of the step; their rows stand where they stand in the step.
Status gated_delta_part(const Launcher& on, const GatedDeltaArgs& args, std::string_view stage);

}  // namespace lockstep
