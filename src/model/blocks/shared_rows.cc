#include "model/blocks/shared_rows.h"

#include "base/check.h"
#include "comm/collectives.h"
#include "comm/launched.h"
#include "kernels/common/checks.h"

namespace lockstep {
namespace {

void run_shared_rows(const SharedRowsArgs& args, Worker worker) {
  const Launched launch(*args.group, worker, args.at);
  const int64_t width = args.out.dim(1), count = args.out.dim(0);
  auto* own = static_cast<float*>(args.scratch.data);
  const std::span<float> mine(own, static_cast<size_t>(count * width));
  const std::span<float> all(own + count * width, mine.size() * static_cast<size_t>(args.group->size()));
  const auto* places = args.places.as<const int32_t>();
  launch.run(&RankKernels::bring_rows, {.x = args.x,
                                        .rows = args.rows.as<const int32_t>(),
                                        .places = places,
                                        .to = own,
                                        .count = count,
                                        .rank = args.group->rank(),
                                        .live = args.num_logits_rows});
  const Status done = launch.all_gather(std::as_bytes(mine), std::as_writable_bytes(all), DType::kF32);
  if (!done.ok()) launch.spoil(std::as_writable_bytes(all));
  launch.run(&RankKernels::place_rows, {.all = all.data(),
                                        .places = places,
                                        .out = args.out.as<float>(),
                                        .count = count,
                                        .width = width,
                                        .ranks = args.group->size(),
                                        .live = args.num_logits_rows});
}

}  // namespace

int64_t shared_rows_scratch_bytes(int64_t rows, int64_t width, int32_t ranks) {
  return int64_t{ranks + 1} * rows * width * static_cast<int64_t>(sizeof(float));
}

Status shared_rows(const Launcher& on, const SharedRowsArgs& args, std::string_view stage) {
  LS_CHECK(args.group != nullptr, "shared_rows in no group");
  LS_TRY(check_tensors("shared_rows", {{"x", args.x},
                                       {"rows", args.rows, DType::kI32},
                                       {"places", args.places, DType::kI32},
                                       {"out", args.out}}));
  LS_TRY(bind_dims("shared_rows", {{"x", args.x, "TE"},
                                   {"rows", args.rows, "R"},
                                   {"places", args.places, "R"},
                                   {"out", args.out, "RE"}}));
  LS_TRY(check_count("shared_rows", "num_logits_rows", args.num_logits_rows));
  LS_TRY(check_workspace("shared_rows", args.scratch,
                         shared_rows_scratch_bytes(args.out.dim(0), args.out.dim(1), args.group->size())));
  if (args.out.elements() == 0) return {};
  launch_collective(on, kSharedRowsSpec, stage, run_shared_rows, args);
  return {};
}

}  // namespace lockstep
