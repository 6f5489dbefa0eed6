// Collectives as launches: what blocks and samplers call between their ops. In a group of one nothing is
// launched. Sums are made in order of ranks, so that every rank of the group has the same bits.
#pragma once

#include "comm/communicator.h"
#include "kernels/common/launcher.h"
#include "tensor/op_spec.h"
#include "tensor/tensor.h"

namespace lockstep {

// x [T, E] f32 becomes the sum over the ranks of `group`. Scratch: all_reduce_scratch_bytes().
struct AllReduceArgs {
  TensorView x;        // [T, E] f32, in and out, contiguous
  TensorView scratch;  // u8
  Communicator* group = nullptr;
};
int64_t all_reduce_scratch_bytes(int64_t rows, int64_t width, int32_t ranks);
Status all_reduce(const Launcher& on, const AllReduceArgs& args, std::string_view stage);

// out [n * T, E]: the rows of every rank, in order of ranks. Any dtype.
struct GatherRowsOfRanksArgs {
  TensorView x;    // [T, E], contiguous
  TensorView out;  // [n * T, E], contiguous
  Communicator* group = nullptr;
};
Status gather_rows_of_ranks(const Launcher& on, const GatherRowsOfRanksArgs& args, std::string_view stage);

// out [T, E] f32: the sum over ranks of the rows of x that are this rank's; the way back of
// gather_rows_of_ranks. Scratch: n * T * E floats.
struct ScatterSumArgs {
  TensorView x;        // [n * T, E] f32, contiguous
  TensorView out;      // [T, E] f32, contiguous
  TensorView scratch;  // u8
  Communicator* group = nullptr;
};
int64_t scatter_sum_scratch_bytes(int64_t rows, int64_t width, int32_t ranks);
Status scatter_sum(const Launcher& on, const ScatterSumArgs& args, std::string_view stage);

// out [R, V] f32: the columns of every rank side by side. Each brings C columns; those past V, which the last
// ranks have where V is no multiple of n, are left out. Scratch: (n + 1) * R * C floats.
struct GatherColumnsArgs {
  TensorView x;        // [R, C] f32, contiguous
  TensorView out;      // [R, V] f32, contiguous; (n - 1) * C < V <= n * C
  TensorView scratch;  // u8
  Communicator* group = nullptr;
};
int64_t gather_columns_scratch_bytes(int64_t rows, int64_t columns, int32_t ranks);
Status gather_columns(const Launcher& on, const GatherColumnsArgs& args, std::string_view stage);

// Errors of all: kInvalidArgument for shapes, dtypes or a scratch that do not fit. What fails while ranks
// exchange closes the group (Communicator::status()); the launch leaves NaN behind then, never old numbers.
// Source: Thakur et al. 2005, Optimization of Collective Communication Operations in MPICH.

}  // namespace lockstep
