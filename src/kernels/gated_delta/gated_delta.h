// Gated delta rule: linear attention with a decaying, error-correcting state per value head.
//   beta = sigmoid(b), g = -exp(A_log) * softplus(a + dt_bias), q and k l2-normalised per head (eps 1e-6
//   inside the sum of squares), q scaled by Dk^-1/2; value head h reads key head h / (Hv / Hk). With S [Dk,
//   Dv]: S <- exp(g) S;  delta = beta (v - Sᵀ k);  S <- S + k deltaᵀ;  out = Sᵀ q
#pragma once

#include "base/units.h"
#include "kernels/common/launcher.h"
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
};

inline constexpr OpArg kGatedDeltaArgs[] = {
    {.name = "q", .access = Access::kRead, .dims = "THD", .any_stride = true},
    {.name = "k", .access = Access::kRead, .dims = "THD", .any_stride = true},
    {.name = "v", .access = Access::kRead, .dims = "TGE", .any_stride = true},
    {.name = "b", .access = Access::kRead, .dims = "TG", .any_stride = true},
    {.name = "a", .access = Access::kRead, .dims = "TG", .any_stride = true},
    {.name = "a_log", .access = Access::kRead, .dims = "G", .rows = RowsTouched::kNone},
    {.name = "dt_bias", .access = Access::kRead, .dims = "G", .rows = RowsTouched::kNone},
    {.name = "state",
     .access = Access::kReadWrite,
     .dims = "NGDE",
     .rows = RowsTouched::kOwned,
     .pad = PadRows::kUntouched,
     .any_stride = true},
    {.name = "query_start_loc", .access = Access::kRead, .dims = "S1"},
    {.name = "state_read_slot", .access = Access::kRead, .dims = "S"},
    {.name = "state_write_slots", .access = Access::kRead, .dims = "T"},
    {.name = "has_initial_state", .access = Access::kRead, .dims = "S"},
    {.name = "out", .access = Access::kWrite, .dims = "TGE"},
    {.name = "workspace", .access = Access::kReadWrite, .dims = "W", .rows = RowsTouched::kNone},
    {.name = "num_rows", .access = Access::kRead, .dims = "", .rows = RowsTouched::kNone},
    {.name = "num_seqs", .access = Access::kRead, .dims = "", .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kGatedDeltaSpec{.name = "gated_delta",
                                        .args = kGatedDeltaArgs,
                                        .workspace = "gated_delta_workspace_bytes: chunk scratch per thread"};

// Scratch per thread for one chunk of one value head.
int64_t gated_delta_workspace_bytes(int threads, int64_t key_dim, int64_t value_dim);

// A sequence of one row, or with a write slot before its last row, goes row by row; longer ones go in chunks
// of 64 rows counted from the sequence's first row of the step (Yang et al. 2024, Gated Delta Networks,
// chunkwise form). The choice depends on the sequence alone, so batch mates do not matter. Dtypes: all f32,
// states too. Pad rows of out are zero; pad states are untouched. Errors: kInvalidArgument (Hv % Hk, shapes,
// workspace). Cost: one launch.
Status gated_delta(const Launcher& on, const GatedDeltaArgs& args, std::string_view stage);

}  // namespace lockstep
