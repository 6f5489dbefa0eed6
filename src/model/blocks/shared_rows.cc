#include "model/blocks/shared_rows.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "comm/collectives.h"
#include "kernels/common/checks.h"
#include "kernels/common/live_rows.h"

namespace lockstep {
namespace {

// The rows that this rank has, the others zero.
void bring(const SharedRowsArgs& args, int64_t live, float* own) {
  const int64_t width = args.out.dim(1), count = args.out.dim(0);
  std::fill_n(own, count * width, 0.0f);
  for (int64_t r = 0; r < live; ++r) {
    if (args.places.as<const int32_t>()[r] / count != args.group->rank()) continue;
    const int64_t row = args.rows.as<const int32_t>()[r];
    if (row < 0 || row >= args.x.dim(0)) {
      std::fill_n(own + r * width, width, std::numeric_limits<float>::quiet_NaN());
      continue;
    }
    std::copy_n(args.x.as<const float>() + row * args.x.stride(0), width, own + r * width);
  }
}

void run_shared_rows(const SharedRowsArgs& args, Worker) {
  const int64_t width = args.out.dim(1), count = args.out.dim(0);
  const int64_t live = live_rows(args.num_logits_rows, count);
  auto* own = static_cast<float*>(args.scratch.data);
  const std::span<float> mine(own, static_cast<size_t>(count * width));
  const std::span<float> all(own + count * width, mine.size() * static_cast<size_t>(args.group->size()));
  bring(args, live, own);
  const Status done =
      args.group->all_gather(std::as_bytes(mine), std::as_writable_bytes(all), DType::kF32, args.at);
  for (int64_t r = 0; r < count; ++r) {
    float* out = args.out.as<float>() + r * width;
    const int64_t place = r < live ? args.places.as<const int32_t>()[r] : 0;
    const bool there = done.ok() && place >= 0 && place < count * args.group->size();
    if (r < live && there) {
      std::copy_n(all.data() + place * width, width, out);
    } else {
      std::fill_n(out, width, r < live ? std::numeric_limits<float>::quiet_NaN() : 0.0f);
    }
  }
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
