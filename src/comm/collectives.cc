#include "comm/collectives.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/math.h"
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

// After a failed exchange: NaN in every float type, -1 in every integer.
void spoil(const TensorView& view) {
  if (view.bytes() > 0) std::memset(view.data, 0xFF, static_cast<size_t>(view.bytes()));
}

// sum[i] = parts[0][i] + parts[1][i] + ... in this order; the parts lie one behind the other. In pieces, so
// that a piece of the sum stays in the nearest cache until all parts are in.
void add_in_order(std::span<const float> parts, std::span<float> sum) {
  constexpr size_t kPiece = 2048;
  for (size_t begin = 0; begin < sum.size(); begin += kPiece) {
    const size_t count = std::min(kPiece, sum.size() - begin);
    float* __restrict to = sum.data() + begin;
    const float* __restrict from = parts.data() + begin;
    std::copy_n(from, count, to);
    for (size_t part = sum.size(); part < parts.size(); part += sum.size()) {
      for (size_t i = 0; i < count; ++i) to[i] += from[part + i];
    }
  }
}

// Everybody gets everything and adds it up.
Status reduce_in_one(const AllReduceArgs& args, std::span<float> x, std::span<float> scratch) {
  const std::span<float> parts = scratch.first(x.size() * static_cast<size_t>(args.group->size()));
  LS_TRY(args.group->all_gather(as_sent(x), std::as_writable_bytes(parts), DType::kF32, args.at));
  add_in_order(parts, x);
  return {};
}

// Rank r adds up block r of all, and everybody gets the sums. Where the numbers do not come out even, they
// travel in the scratch, followed by zeros.
Status reduce_in_two(const AllReduceArgs& args, std::span<float> x, std::span<float> scratch) {
  const auto ranks = static_cast<size_t>(args.group->size());
  const size_t block = ceil_div(x.size(), ranks), all = block * ranks;
  const std::span<float> parts = scratch.first(all);
  std::span<float> whole = x;
  if (x.size() != all) {
    whole = scratch.subspan(all, all);
    std::copy(x.begin(), x.end(), whole.begin());
    std::fill(whole.begin() + static_cast<std::ptrdiff_t>(x.size()), whole.end(), 0.0f);
  }
  LS_TRY(args.group->all_to_all(as_sent(whole), std::as_writable_bytes(parts),
                                static_cast<int64_t>(block * sizeof(float)), DType::kF32, args.at));
  const std::span<float> mine = whole.subspan(block * static_cast<size_t>(args.group->rank()), block);
  add_in_order(parts, mine);
  LS_TRY(args.group->all_gather(as_sent(mine), std::as_writable_bytes(whole), DType::kF32, args.at));
  if (x.size() != all) std::copy_n(whole.begin(), x.size(), x.begin());
  return {};
}

void run_all_reduce(const AllReduceArgs& args, Worker) {
  const std::span<float> x = floats_of(args.x), scratch = floats_of(args.scratch);
  const bool one = static_cast<int64_t>(x.size()) <= kOneExchange;
  const Status done = one ? reduce_in_one(args, x, scratch) : reduce_in_two(args, x, scratch);
  if (!done.ok()) spoil(args.x);
}

void run_gather_rows(const GatherRowsOfRanksArgs& args, Worker) {
  const Status done = args.group->all_gather(bytes_of(args.x), space_of(args.out), args.x.dtype, args.at);
  if (!done.ok()) spoil(args.out);
}

void run_scatter_sum(const ScatterSumArgs& args, Worker) {
  const std::span<float> parts = floats_of(args.scratch).first(floats_of(args.x).size());
  const Status done = args.group->all_to_all(bytes_of(args.x), std::as_writable_bytes(parts),
                                             args.out.bytes(), DType::kF32, args.at);
  if (!done.ok()) return spoil(args.out);
  add_in_order(parts, floats_of(args.out));
}

void run_gather_columns(const GatherColumnsArgs& args, Worker) {
  const std::span<const float> x = floats_of(args.x);
  const int64_t rows = args.x.dim(0), columns = args.x.dim(1), width = args.out.dim(1);
  const std::span<float> parts =
      floats_of(args.scratch).first(x.size() * static_cast<size_t>(args.group->size()));
  const Status done = args.group->all_gather(as_sent(x), std::as_writable_bytes(parts), DType::kF32, args.at);
  if (!done.ok()) return spoil(args.out);
  for (int64_t rank = 0; rank * columns < width; ++rank) {
    const int64_t count = std::min(columns, width - rank * columns);
    for (int64_t row = 0; row < rows; ++row) {
      std::copy_n(parts.data() + (rank * rows + row) * columns, count,
                  floats_of(args.out).data() + row * width + rank * columns);
    }
  }
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
