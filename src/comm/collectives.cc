#include "comm/collectives.h"

#include <algorithm>

#include "base/check.h"
#include "base/math.h"
#include "comm/launched.h"
#include "kernels/common/checks.h"

namespace lockstep {
namespace {

std::span<const std::byte> bytes_of(const TensorView& view) {
  return {static_cast<const std::byte*>(view.data), static_cast<size_t>(view.bytes())};
}
std::span<std::byte> space_of(const TensorView& view) {
  return {static_cast<std::byte*>(view.data), static_cast<size_t>(view.bytes())};
}
std::span<float> floats_of(const TensorView& view) {
  return {static_cast<float*>(view.data), static_cast<size_t>(view.bytes()) / sizeof(float)};
}
std::span<const std::byte> as_sent(std::span<const float> values) { return std::as_bytes(values); }
std::span<std::byte> as_received(std::span<float> values) { return std::as_writable_bytes(values); }
int64_t count_of(std::span<const float> values) { return static_cast<int64_t>(values.size()); }

// sum = the first of the parts, plus the second, ...
void add_in_order(const Launched& launch, std::span<const float> parts, std::span<float> sum) {
  if (sum.empty()) return;
  launch.run(&RankKernels::add_parts, {.parts = parts.data(),
                                       .sum = sum.data(),
                                       .count = count_of(sum),
                                       .ranks = count_of(parts) / count_of(sum)});
}

// Everybody gets everything and adds it up.
Status reduce_in_one(const AllReduceArgs& args, const Launched& launch) {
  const std::span<float> x = floats_of(args.x);
  const std::span<float> parts =
      floats_of(args.scratch).first(x.size() * static_cast<size_t>(args.group->size()));
  LS_TRY(launch.all_gather(as_sent(x), as_received(parts), DType::kF32));
  add_in_order(launch, parts, x);
  return {};
}

// Rank r adds up block r of all, and everybody gets the sums. Where the numbers do not come out even, they
// travel in the scratch, followed by zeros.
Status reduce_in_two(const AllReduceArgs& args, const Launched& launch) {
  const std::span<float> x = floats_of(args.x), scratch = floats_of(args.scratch);
  const auto ranks = static_cast<size_t>(args.group->size());
  const size_t block = ceil_div(x.size(), ranks), all = block * ranks;
  const std::span<float> parts = scratch.first(all);
  std::span<float> whole = x;
  if (x.size() != all) {
    whole = scratch.subspan(all, all);
    launch.run(
        &RankKernels::copy_padded,
        {.from = x.data(), .to = whole.data(), .count = count_of(x), .room = static_cast<int64_t>(all)});
  }
  LS_TRY(launch.all_to_all(as_sent(whole), as_received(parts), DType::kF32));
  const std::span<float> mine = whole.subspan(block * static_cast<size_t>(args.group->rank()), block);
  add_in_order(launch, parts, mine);
  LS_TRY(launch.all_gather(as_sent(mine), as_received(whole), DType::kF32));
  if (x.size() == all) return {};
  launch.run(&RankKernels::copy_padded,
             {.from = whole.data(), .to = x.data(), .count = count_of(x), .room = count_of(x)});
  return {};
}

void run_all_reduce(const AllReduceArgs& args, Worker worker) {
  const Launched launch(*args.group, worker, args.at);
  const int64_t elements = args.x.elements();
  const bool one = elements <= kOneExchange || (launch.on_device() && args.group->size() == 2);
  const Status done = one ? reduce_in_one(args, launch) : reduce_in_two(args, launch);
  if (!done.ok()) launch.spoil(space_of(args.x));
}

void run_gather_rows(const GatherRowsOfRanksArgs& args, Worker worker) {
  const Launched launch(*args.group, worker, args.at);
  const Status done = launch.all_gather(bytes_of(args.x), space_of(args.out), args.x.dtype);
  if (!done.ok()) launch.spoil(space_of(args.out));
}

void run_scatter_sum(const ScatterSumArgs& args, Worker worker) {
  const Launched launch(*args.group, worker, args.at);
  const std::span<float> parts = floats_of(args.scratch).first(floats_of(args.x).size());
  const Status done = launch.all_to_all(bytes_of(args.x), as_received(parts), DType::kF32);
  if (!done.ok()) return launch.spoil(space_of(args.out));
  add_in_order(launch, parts, floats_of(args.out));
}

void run_gather_columns(const GatherColumnsArgs& args, Worker worker) {
  const Launched launch(*args.group, worker, args.at);
  const std::span<const float> x = floats_of(args.x);
  const std::span<float> parts =
      floats_of(args.scratch).first(x.size() * static_cast<size_t>(args.group->size()));
  const Status done = launch.all_gather(as_sent(x), as_received(parts), DType::kF32);
  if (!done.ok()) return launch.spoil(space_of(args.out));
  launch.run(&RankKernels::join_columns, {.parts = parts.data(),
                                          .out = floats_of(args.out).data(),
                                          .rows = args.x.dim(0),
                                          .columns = args.x.dim(1),
                                          .width = args.out.dim(1)});
}

Status check_contiguous(std::string_view op, std::string_view name, const TensorView& view) {
  if (view.is_contiguous()) return {};
  return error(Code::kInvalidArgument, op, ": ", name, " ", view.shape,
               " has gaps between its rows; expected them side by side");
}

// x and out [ranks * rows, E] on the side that has the rows of all.
Status check_rows(std::string_view op, const DimBinding& own, const DimBinding& all, int32_t ranks) {
  LS_TRY(bind_dims(op, {{own.name, own.view, "TE"}, {all.name, all.view, "NE"}}));
  LS_TRY(check_contiguous(op, own.name, own.view));
  LS_TRY(check_contiguous(op, all.name, all.view));
  if (all.view.dim(0) == own.view.dim(0) * ranks) return {};
  return error(Code::kInvalidArgument, op, ": ", all.name, " has ", all.view.dim(0), " rows; expected ",
               own.view.dim(0) * ranks, ", those of ", ranks, ranks == 1 ? " rank" : " ranks");
}

constexpr int64_t kFloat = sizeof(float);

}  // namespace

int64_t all_reduce_scratch_bytes(int64_t rows, int64_t width, int32_t ranks) {
  if (ranks == 1) return 0;
  const int64_t elements = rows * width;
  return kFloat * ranks * std::max(std::min(elements, kOneExchange), 2 * ceil_div<int64_t>(elements, ranks));
}

int64_t scatter_sum_scratch_bytes(int64_t rows, int64_t width, int32_t ranks) {
  return kFloat * ranks * rows * width;
}

int64_t gather_columns_scratch_bytes(int64_t rows, int64_t columns, int32_t ranks) {
  return kFloat * ranks * rows * columns;
}

Status all_reduce(const Launcher& on, const AllReduceArgs& args, std::string_view stage) {
  LS_CHECK(args.group != nullptr, "all_reduce in no group");
  LS_TRY(check_tensors("all_reduce", {{"x", args.x}}));
  LS_TRY(bind_dims("all_reduce", {{"x", args.x, "TE"}}));
  LS_TRY(check_contiguous("all_reduce", "x", args.x));
  if (args.group->size() == 1) return {};
  LS_TRY(check_workspace("all_reduce", args.scratch,
                         all_reduce_scratch_bytes(args.x.dim(0), args.x.dim(1), args.group->size())));
  launch_collective(on, kAllReduceSpec, stage, run_all_reduce, args);
  return {};
}

Status gather_rows_of_ranks(const Launcher& on, const GatherRowsOfRanksArgs& args, std::string_view stage) {
  constexpr std::string_view kOp = "gather_rows_of_ranks";
  LS_CHECK(args.group != nullptr, kOp, " in no group");
  LS_TRY(check_dtype(kOp, "out", args.out, args.x.dtype));
  LS_TRY(check_rows(kOp, {"x", args.x, ""}, {"out", args.out, ""}, args.group->size()));
  launch_collective(on, kGatherRowsOfRanksSpec, stage, run_gather_rows, args);
  return {};
}

Status scatter_sum(const Launcher& on, const ScatterSumArgs& args, std::string_view stage) {
  LS_CHECK(args.group != nullptr, "scatter_sum in no group");
  LS_TRY(check_tensors("scatter_sum", {{"x", args.x}, {"out", args.out}}));
  LS_TRY(check_rows("scatter_sum", {"out", args.out, ""}, {"x", args.x, ""}, args.group->size()));
  LS_TRY(check_workspace("scatter_sum", args.scratch,
                         scatter_sum_scratch_bytes(args.out.dim(0), args.out.dim(1), args.group->size())));
  launch_collective(on, kScatterSumSpec, stage, run_scatter_sum, args);
  return {};
}

Status gather_columns(const Launcher& on, const GatherColumnsArgs& args, std::string_view stage) {
  LS_CHECK(args.group != nullptr, "gather_columns in no group");
  LS_TRY(check_tensors("gather_columns", {{"x", args.x}, {"out", args.out}}));
  LS_TRY(bind_dims("gather_columns", {{"x", args.x, "RC"}, {"out", args.out, "RV"}}));
  LS_TRY(check_contiguous("gather_columns", "x", args.x));
  LS_TRY(check_contiguous("gather_columns", "out", args.out));
  const int64_t all = args.x.dim(1) * args.group->size();
  if (args.out.dim(1) > all) {
    return error(Code::kInvalidArgument, "gather_columns: out has ", args.out.dim(1),
                 " columns; expected at most ", all, ", ", args.x.dim(1), " of each rank");
  }
  LS_TRY(check_workspace("gather_columns", args.scratch,
                         gather_columns_scratch_bytes(args.x.dim(0), args.x.dim(1), args.group->size())));
  launch_collective(on, kGatherColumnsSpec, stage, run_gather_columns, args);
  return {};
}

}  // namespace lockstep
