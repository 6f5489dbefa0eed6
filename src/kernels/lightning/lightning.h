// Lightning attention: linear attention with a state per head that decays by a constant factor, without a
// correction. Head h reads key head h / (H / K). With S [D, E]:
//   S <- decay[h] S + k vᵀ;  out = Sᵀ (scale q)
#pragma once

#include <array>

#include "base/units.h"
#include "kernels/common/launcher.h"
#include "kernels/linear/linear.h"
#include "tensor/op_spec.h"
#include "tensor/tensor.h"

namespace lockstep {

struct LightningArgs {
  TensorView q;                  // [T, H, D] f32, any stride of T and H
  TensorView k;                  // [T, K, D] f32, any stride of T and K; K divides H
  TensorView v;                  // [T, K, E] f32, any stride of T and K
  TensorView decay;              // [H] f32, in (0, 1)
  TensorView state;              // [N, H, D, E] f32, any stride of N: state slots; slot 0 is the pad state
  TensorView query_start_loc;    // [S + 1] i32
  TensorView state_read_slot;    // [S] i32
  TensorView state_write_slots;  // [T] i32: the state after row t goes there; -1: nowhere
  TensorView has_initial_state;  // [S] i32
  TensorView out;                // [T, H, E] f32
  TensorView workspace;          // u8, at least lightning_workspace_bytes(...)
  const LiveRows* num_rows = nullptr;
  const LiveSeqs* num_seqs = nullptr;
  float scale = 1.0f;
  // kBF16: q, k and what products are made of may be rounded to bf16 on the way into them.
  MatmulInput input = MatmulInput::kF32;
  int32_t query_len = 0;  // rows of every sequence that has any; 0: they differ
};

inline constexpr std::array kLightningArgs = {
    OpArg{LS_ARG(LightningArgs, q), .access = Access::kRead, .dims = "THD", .rows = RowsTouched::kLive,
          .any_stride = true},
    OpArg{LS_ARG(LightningArgs, k), .access = Access::kRead, .dims = "TKD", .rows = RowsTouched::kLive,
          .any_stride = true},
    OpArg{LS_ARG(LightningArgs, v), .access = Access::kRead, .dims = "TKE", .rows = RowsTouched::kLive,
          .any_stride = true},
    OpArg{LS_ARG(LightningArgs, decay), .access = Access::kRead, .dims = "H", .rows = RowsTouched::kNone},
    OpArg{LS_ARG(LightningArgs, state), .access = Access::kReadWrite, .dims = "NHDE",
          .rows = RowsTouched::kOwned, .pad = PadRows::kUntouched, .outer_stride = true},
    OpArg{LS_ARG(LightningArgs, query_start_loc), .access = Access::kRead, .dims = "S1",
          .rows = RowsTouched::kLive},
    OpArg{LS_ARG(LightningArgs, state_read_slot), .access = Access::kRead, .dims = "S",
          .rows = RowsTouched::kLive},
    OpArg{LS_ARG(LightningArgs, state_write_slots), .access = Access::kRead, .dims = "T",
          .rows = RowsTouched::kLive},
    OpArg{LS_ARG(LightningArgs, has_initial_state), .access = Access::kRead, .dims = "S",
          .rows = RowsTouched::kLive},
    OpArg{LS_ARG(LightningArgs, out), .access = Access::kWrite, .dims = "THE", .any_stride = true},
    OpArg{LS_ARG(LightningArgs, workspace), .access = Access::kWrite, .dims = "W",
          .rows = RowsTouched::kNone},
    OpArg{LS_ARG(LightningArgs, num_rows), .rows = RowsTouched::kNone},
    OpArg{LS_ARG(LightningArgs, num_seqs), .rows = RowsTouched::kNone},
    OpArg{LS_ARG(LightningArgs, scale), .rows = RowsTouched::kNone},
    OpArg{LS_ARG(LightningArgs, input), .rows = RowsTouched::kNone},
    OpArg{LS_ARG(LightningArgs, query_len), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kLightningSpec{.name = "lightning",
                                       .args = kLightningArgs,
                                       .args_bytes = sizeof(LightningArgs),
                                       .workspace = "lightning_workspace_bytes, lightning_device_bytes"};

// Of some of a step's sequences: rows of the others stay what they are.
inline constexpr std::array kLightningPartArgs = [] {
  std::array args = kLightningArgs;
  for (OpArg& arg : args) {
    if (arg.name == "out") arg.access = Access::kReadWrite;
  }
  return args;
}();
inline constexpr OpSpec kLightningPartSpec{.name = "lightning_part",
                                           .args = kLightningPartArgs,
                                           .args_bytes = sizeof(LightningArgs),
                                           .workspace = "lightning_workspace_bytes, lightning_device_bytes"};

// Scratch per thread for one chunk of one head, and for a state between chunks.
int64_t lightning_workspace_bytes(int threads, int64_t key_dim, int64_t value_dim);
// On a device where input is kBF16: what the chunks of T rows hand on.
int64_t lightning_device_bytes(int64_t rows, int64_t key_heads, int64_t heads, int64_t key_dim);

// Longer runs of rows go in chunks that keep a tile of the state in registers, single rows through the state
// once; each element of state and output is computed by the same operations in the same order either way. So
// a sequence's bits do not depend on where its rows are cut into steps, nor on its batch mates.
// On CUDA the same, unless input is kBF16. Then sequences of more than one row, none of which but the last
// has a write slot, go in chunks of 64 rows counted from the sequence's first row of the step, on matrix
// units, where D is 64 or 128, E a multiple of 32, and rows of q, k and v are vectors of 16 bytes: q, k, v
// and S enter products rounded to bf16; sums and states stay f32. The choice depends on the sequence alone;
// where rows are cut into steps it does not keep bits, and a NaN may reach earlier rows of its own chunk.
// Dtypes: all f32, states too. Pad rows of out are zero; pad states are untouched.
// Errors: kInvalidArgument (H % K, shapes, workspace). Cost: one launch.
// Source: Qin et al. 2024, Lightning Attention-2 (decay per head, tiles); Yang et al. 2024, Gated Linear
// Attention (simple form).
Status lightning(const Launcher& on, const LightningArgs& args, std::string_view stage);
// The same of the sequences that query_start_loc, state_read_slot and has_initial_state have, a run of those
// of the step; their rows stand where they stand in the step.
Status lightning_part(const Launcher& on, const LightningArgs& args, std::string_view stage);

}  // namespace lockstep
