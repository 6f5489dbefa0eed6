#include <cstring>
#include <limits>

#include "kernels/common/live_rows.h"
#include "kernels/rows/rows_kernels.h"

namespace lockstep::reference {
namespace {

constexpr int64_t kTokensPerLine = 16;  // so that no two threads write one cache line

}  // namespace

void resolve_tokens(const ResolveTokensArgs& args, Worker worker) {
  const int64_t live = live_rows(args.num_rows, args.out.dim(0));
  const auto* literals = args.token_ids.as<const int32_t>();
  const auto* sources = args.token_source.as<const int32_t>();
  const auto* sampled = args.sampled.as<const int32_t>();
  const Worker::Range rows = worker.share(args.out.dim(0), kTokensPerLine);
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    int32_t token = 0;
    if (t < live) {
      const int64_t source = sources[t];
      token = source < 0 ? literals[t] : source < args.sampled.dim(0) ? sampled[source] : -1;
    }
    args.out.as<int32_t>()[t] = token;
  }
}

void gather_rows(const GatherRowsArgs& args, Worker worker) {
  const int64_t live = live_rows(args.num_logits_rows, args.out.dim(0));
  const int64_t width = args.out.dim(1);
  const Worker::Range rows = worker.share(args.out.dim(0));
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    float* out = args.out.as<float>() + r * args.out.stride(0);
    const int64_t from = r < live ? args.rows.as<const int32_t>()[r] : 0;
    if (r < live && from >= 0 && from < args.x.dim(0)) {
      std::memcpy(out, args.x.as<const float>() + from * args.x.stride(0),
                  static_cast<size_t>(width) * sizeof(float));
      continue;
    }
    const float fill = r < live ? std::numeric_limits<float>::quiet_NaN() : 0.0f;
    for (int64_t e = 0; e < width; ++e) out[e] = fill;
  }
}

}  // namespace lockstep::reference
