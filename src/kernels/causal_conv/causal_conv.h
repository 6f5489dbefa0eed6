// Short causal convolution per channel with a state per sequence, then SiLU.
//   y[t, c] = silu( sum over j < W of weight[c, j] * u[t - (W-1) + j, c] )
// where u before the sequence's first row of this step is the state (the last W-1 raw inputs, oldest first),
// or zero for a sequence without one. weight[., W-1] multiplies the current row.
#pragma once

#include "base/units.h"
#include "kernels/common/launcher.h"
#include "tensor/op_spec.h"
#include "tensor/tensor.h"

namespace lockstep {

struct CausalConvArgs {
  TensorView x;                  // [T, C] f32, any row stride; raw inputs
  TensorView weight;             // [C, W] f32
  TensorView state;              // [N, C, W-1] f32, any stride of N: state slots; slot 0 is the pad state
  TensorView query_start_loc;    // [S + 1] i32
  TensorView state_read_slot;    // [S] i32 (StateSlot)
  TensorView state_write_slots;  // [T] i32: the state after row t goes there; -1: nowhere
  TensorView has_initial_state;  // [S] i32: 0 starts from zeros whatever the slot holds
  TensorView out;                // [T, C] f32; not x
  const LiveRows* num_rows = nullptr;
  const LiveSeqs* num_seqs = nullptr;
};

// What each launch touches: outputs first, from the states as they were; then the states.
inline constexpr OpArg kCausalConvArgs[] = {
    {LS_ARG(CausalConvArgs, x), .access = Access::kRead, .dims = "TC", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(CausalConvArgs, weight), .access = Access::kRead, .dims = "CW", .rows = RowsTouched::kNone},
    {LS_ARG(CausalConvArgs, state), .access = Access::kRead, .dims = "NCV", .rows = RowsTouched::kOwned,
     .outer_stride = true},
    {LS_ARG(CausalConvArgs, query_start_loc), .access = Access::kRead, .dims = "S1",
     .rows = RowsTouched::kLive},
    {LS_ARG(CausalConvArgs, state_read_slot), .access = Access::kRead, .dims = "S",
     .rows = RowsTouched::kLive},
    {LS_ARG(CausalConvArgs, state_write_slots), .access = Access::kNone, .dims = "T"},
    {LS_ARG(CausalConvArgs, has_initial_state), .access = Access::kRead, .dims = "S",
     .rows = RowsTouched::kLive},
    {LS_ARG(CausalConvArgs, out), .access = Access::kWrite, .dims = "TC", .any_stride = true},
    {LS_ARG(CausalConvArgs, num_rows), .rows = RowsTouched::kNone},
    {LS_ARG(CausalConvArgs, num_seqs), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kCausalConvSpec{
    .name = "causal_conv", .args = kCausalConvArgs, .args_bytes = sizeof(CausalConvArgs)};

// Of some of a step's sequences: rows of the others stay what they are.
inline constexpr OpArg kCausalConvPartArgs[] = {
    {LS_ARG(CausalConvArgs, x), .access = Access::kRead, .dims = "TC", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(CausalConvArgs, weight), .access = Access::kRead, .dims = "CW", .rows = RowsTouched::kNone},
    {LS_ARG(CausalConvArgs, state), .access = Access::kRead, .dims = "NCV", .rows = RowsTouched::kOwned,
     .outer_stride = true},
    {LS_ARG(CausalConvArgs, query_start_loc), .access = Access::kRead, .dims = "S1",
     .rows = RowsTouched::kLive},
    {LS_ARG(CausalConvArgs, state_read_slot), .access = Access::kRead, .dims = "S",
     .rows = RowsTouched::kLive},
    {LS_ARG(CausalConvArgs, state_write_slots), .access = Access::kNone, .dims = "T"},
    {LS_ARG(CausalConvArgs, has_initial_state), .access = Access::kRead, .dims = "S",
     .rows = RowsTouched::kLive},
    {LS_ARG(CausalConvArgs, out), .access = Access::kReadWrite, .dims = "TC", .any_stride = true},
    {LS_ARG(CausalConvArgs, num_rows), .rows = RowsTouched::kNone},
    {LS_ARG(CausalConvArgs, num_seqs), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kCausalConvPartSpec{
    .name = "causal_conv_part", .args = kCausalConvPartArgs, .args_bytes = sizeof(CausalConvArgs)};

inline constexpr OpArg kCausalConvStateArgs[] = {
    {LS_ARG(CausalConvArgs, x), .access = Access::kRead, .dims = "TC", .rows = RowsTouched::kLive,
     .any_stride = true},
    {LS_ARG(CausalConvArgs, weight), .access = Access::kNone, .dims = "CW", .rows = RowsTouched::kNone},
    {LS_ARG(CausalConvArgs, state), .access = Access::kReadWrite, .dims = "NCV", .rows = RowsTouched::kOwned,
     .pad = PadRows::kUntouched, .outer_stride = true},
    {LS_ARG(CausalConvArgs, query_start_loc), .access = Access::kRead, .dims = "S1",
     .rows = RowsTouched::kLive},
    {LS_ARG(CausalConvArgs, state_read_slot), .access = Access::kRead, .dims = "S",
     .rows = RowsTouched::kLive},
    {LS_ARG(CausalConvArgs, state_write_slots), .access = Access::kRead, .dims = "T",
     .rows = RowsTouched::kLive},
    {LS_ARG(CausalConvArgs, has_initial_state), .access = Access::kRead, .dims = "S",
     .rows = RowsTouched::kLive},
    {LS_ARG(CausalConvArgs, out), .access = Access::kNone, .dims = "TC"},
    {LS_ARG(CausalConvArgs, num_rows), .access = Access::kNone, .rows = RowsTouched::kNone},
    {LS_ARG(CausalConvArgs, num_seqs), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kCausalConvStateSpec{
    .name = "causal_conv_state", .args = kCausalConvStateArgs, .args_bytes = sizeof(CausalConvArgs)};

inline constexpr int64_t kMaxConvWindow = 16;  // W; the models at hand have 4

// Pad rows of out are zero; pad states are untouched. A sequence shorter than the window shifts its state;
// its read slot may be one of its write slots. Errors: kInvalidArgument. Cost: two launches (outputs, then
// states).
Status causal_conv(const Launcher& on, const CausalConvArgs& args, std::string_view stage);
// The same of the sequences that query_start_loc, state_read_slot and has_initial_state have, a run of those
// of the step; their rows stand where they stand in the step.
Status causal_conv_part(const Launcher& on, const CausalConvArgs& args, std::string_view stage);

}  // namespace lockstep
