// Collectives as launches: what blocks and samplers call between their ops. Sums are made in order of ranks,
// so that every rank of the group has the same bits.
#pragma once

#include "comm/communicator.h"
#include "kernels/common/launcher.h"
#include "tensor/op_spec.h"
#include "tensor/tensor.h"

namespace lockstep {

// Launches an op whose Args have a place in the step for ranks to compare, `at`: that of the launch. On one
// thread: communicators have one owner.
template <typename Args>
void launch_collective(const Launcher& on, const OpSpec& spec, std::string_view stage, Kernel<Args> kernel,
                       Args args) {
  args.at = {.stage = stage, .layer = on.stream.layer()};
  launch(on.stream, spec, stage, kernel, args, Parts::kOne);
}

// x [T, E] f32 becomes the sum over the ranks of `group`. In a group of one nothing is launched.
struct AllReduceArgs {
  TensorView x;        // [T, E] f32, in and out, contiguous
  TensorView scratch;  // at least all_reduce_scratch_bytes()
  Communicator* group = nullptr;
  CallSite at;  // of the launch, which sets it
};

// out [n * T, E]: the rows of every rank, in order of ranks. Any dtype.
struct GatherRowsOfRanksArgs {
  TensorView x;    // [T, E], contiguous
  TensorView out;  // [n * T, E], contiguous
  Communicator* group = nullptr;
  CallSite at;  // of the launch, which sets it
};

// out [T, E] f32: the sum over ranks of the rows of x that are this rank's; the way back of
// gather_rows_of_ranks.
struct ScatterSumArgs {
  TensorView x;        // [n * T, E] f32, contiguous
  TensorView out;      // [T, E] f32, contiguous
  TensorView scratch;  // at least scatter_sum_scratch_bytes()
  Communicator* group = nullptr;
  CallSite at;  // of the launch, which sets it
};

// out [R, V] f32: the columns of every rank side by side. Each brings C columns; those past V, which the last
// ranks have where V is no multiple of n, are left out.
struct GatherColumnsArgs {
  TensorView x;        // [R, C] f32, contiguous
  TensorView out;      // [R, V] f32, contiguous; V <= n * C
  TensorView scratch;  // at least gather_columns_scratch_bytes()
  Communicator* group = nullptr;
  CallSite at;  // of the launch, which sets it
};

inline constexpr OpArg kAllReduceArgs[] = {
    {LS_ARG(AllReduceArgs, x), .access = Access::kReadWrite, .dims = "TE"},
    {LS_ARG(AllReduceArgs, scratch), .access = Access::kWrite, .dims = "W", .rows = RowsTouched::kNone},
    {LS_ARG(AllReduceArgs, group), .rows = RowsTouched::kNone},
    {LS_ARG(AllReduceArgs, at), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kAllReduceSpec{.name = "all_reduce",
                                       .args = kAllReduceArgs,
                                       .args_bytes = sizeof(AllReduceArgs),
                                       .workspace = "4 n max(min(T E, 950), 2 ceil(T E / n)) of n ranks",
                                       .collective = true};

// N stands for the rows of all ranks, which have owners that no rank knows alone.
inline constexpr OpArg kGatherRowsOfRanksArgs[] = {
    {LS_ARG(GatherRowsOfRanksArgs, x), .access = Access::kRead, .dims = "TE"},
    {LS_ARG(GatherRowsOfRanksArgs, out), .access = Access::kWrite, .dims = "NE"},
    {LS_ARG(GatherRowsOfRanksArgs, group), .rows = RowsTouched::kNone},
    {LS_ARG(GatherRowsOfRanksArgs, at), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kGatherRowsOfRanksSpec{.name = "gather_rows_of_ranks",
                                               .args = kGatherRowsOfRanksArgs,
                                               .args_bytes = sizeof(GatherRowsOfRanksArgs),
                                               .collective = true};

inline constexpr OpArg kScatterSumArgs[] = {
    {LS_ARG(ScatterSumArgs, x), .access = Access::kRead, .dims = "NE"},
    {LS_ARG(ScatterSumArgs, out), .access = Access::kWrite, .dims = "TE"},
    {LS_ARG(ScatterSumArgs, scratch), .access = Access::kWrite, .dims = "W", .rows = RowsTouched::kNone},
    {LS_ARG(ScatterSumArgs, group), .rows = RowsTouched::kNone},
    {LS_ARG(ScatterSumArgs, at), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kScatterSumSpec{.name = "scatter_sum",
                                        .args = kScatterSumArgs,
                                        .args_bytes = sizeof(ScatterSumArgs),
                                        .workspace = "4 n T E of n ranks",
                                        .collective = true};

inline constexpr OpArg kGatherColumnsArgs[] = {
    {LS_ARG(GatherColumnsArgs, x), .access = Access::kRead, .dims = "RC"},
    {LS_ARG(GatherColumnsArgs, out), .access = Access::kWrite, .dims = "RV"},
    {LS_ARG(GatherColumnsArgs, scratch), .access = Access::kWrite, .dims = "W", .rows = RowsTouched::kNone},
    {LS_ARG(GatherColumnsArgs, group), .rows = RowsTouched::kNone},
    {LS_ARG(GatherColumnsArgs, at), .rows = RowsTouched::kNone},
};
inline constexpr OpSpec kGatherColumnsSpec{.name = "gather_columns",
                                           .args = kGatherColumnsArgs,
                                           .args_bytes = sizeof(GatherColumnsArgs),
                                           .workspace = "4 n R C of n ranks",
                                           .collective = true};

// Sums of up to so many floats take one exchange, with every rank's numbers; longer ones two, with 1/n of
// them each. Both give the same bits. So many go along with the head of an exchange between processes: there,
// 4 KiB take 4.4 us in one exchange of 2 ranks and 1.6 us in two; threads draw even at 16 KiB (comm_bench).
// Two devices move the same bytes either way, and take one exchange for any sum.
inline constexpr int64_t kOneExchange = 950;

// Bytes that are enough for these and all smaller sizes.
int64_t all_reduce_scratch_bytes(int64_t rows, int64_t width, int32_t ranks);
int64_t scatter_sum_scratch_bytes(int64_t rows, int64_t width, int32_t ranks);
int64_t gather_columns_scratch_bytes(int64_t rows, int64_t columns, int32_t ranks);

// Errors of all: kInvalidArgument for shapes, dtypes or a scratch that do not fit. What fails while ranks
// exchange closes the group (Communicator::status()); the launch leaves all bits set behind then, NaN in
// floats and -1 in integers, never old numbers; a device's memory then holds whatever it does. Without rows
// they are launched all the same: whether a rank takes part must not depend on what it has. Cost: one launch,
// on one thread; no allocation here. A group of one copies; it exchanges nothing. Source: Thakur et al. 2005,
// Optimization of Collective Communication Operations in MPICH.
Status all_reduce(const Launcher& on, const AllReduceArgs& args, std::string_view stage);
Status gather_rows_of_ranks(const Launcher& on, const GatherRowsOfRanksArgs& args, std::string_view stage);
Status scatter_sum(const Launcher& on, const ScatterSumArgs& args, std::string_view stage);
Status gather_columns(const Launcher& on, const GatherColumnsArgs& args, std::string_view stage);

}  // namespace lockstep
