// Rows of other ranks: where context-parallel ranks share a step's rows, the one that runs a sequence's last
// row has what its logits are made of, and all need it.
#pragma once

#include "base/units.h"
#include "comm/communicator.h"
#include "kernels/common/launcher.h"
#include "tensor/op_spec.h"
#include "tensor/tensor.h"

namespace lockstep {

// out[r] = row rows[r] of x on the rank places[r] / R, for r < *num_logits_rows; later rows are zero.
// Collective.
struct SharedRowsArgs {
  TensorView x;        // [T, E] f32, any row stride
  TensorView rows;     // [R] i32 (RowIndex), the same on every rank
  TensorView places;   // [R] i32: rank * R + r, the same on every rank
  TensorView out;      // [R, E] f32, contiguous
  TensorView scratch;  // u8, at least shared_rows_scratch_bytes()
  const LiveRows* num_logits_rows = nullptr;
  Communicator* group = nullptr;
  CallSite at;  // of the launch, which sets it
};
// What each rank brings, and what all bring together.
int64_t shared_rows_scratch_bytes(int64_t rows, int64_t width, int32_t ranks);

inline constexpr OpArg kSharedRowsArgs[] = {
    {LS_ARG(SharedRowsArgs, x), .access = Access::kRead, .dims = "TE", .rows = RowsTouched::kOwned,
     .any_stride = true},
    {LS_ARG(SharedRowsArgs, rows), .access = Access::kRead, .dims = "R", .rows = RowsTouched::kLive},
    {LS_ARG(SharedRowsArgs, places), .access = Access::kRead, .dims = "R", .rows = RowsTouched::kLive},
    {LS_ARG(SharedRowsArgs, out), .access = Access::kWrite, .dims = "RE"},
    {LS_ARG(SharedRowsArgs, scratch), .access = Access::kWrite, .dims = "W", .rows = RowsTouched::kNone},
    {LS_ARG(SharedRowsArgs, num_logits_rows), .rows = RowsTouched::kNone},
    {LS_ARG(SharedRowsArgs, group), .rows = RowsTouched::kNone},
    {LS_ARG(SharedRowsArgs, at), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kSharedRowsSpec{.name = "shared_rows",
                                        .args = kSharedRowsArgs,
                                        .args_bytes = sizeof(SharedRowsArgs),
                                        .workspace = "4 (n + 1) R E of n ranks",
                                        .collective = true};

// A row that its rank does not have gives NaN. Errors: kInvalidArgument for shapes, dtypes or a scratch that
// do not fit. Cost: one launch.
Status shared_rows(const Launcher& on, const SharedRowsArgs& args, std::string_view stage);

}  // namespace lockstep
