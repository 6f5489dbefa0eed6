// The oracle of gated_norm: plain loops in f64.
#include <cmath>

#include "kernels/common/live_rows.h"
#include "kernels/gated_norm/gated_norm_kernels.h"

namespace lockstep::reference {
namespace {

void norm_head(const GatedNormArgs& args, const float* x, const float* z, float* out) {
  const int64_t size = args.weight.dim(0);
  const float* weight = args.weight.as<const float>();
  double squares = 0;
  for (int64_t d = 0; d < size; ++d) squares += static_cast<double>(x[d]) * static_cast<double>(x[d]);
  const double scale = 1.0 / std::sqrt(squares / static_cast<double>(size) + args.epsilon);
  for (int64_t d = 0; d < size; ++d) {
    const double gate = z[d];
    out[d] = static_cast<float>(x[d] * scale * weight[d] * (gate / (1.0 + std::exp(-gate))));
  }
}

}  // namespace

void gated_norm(const GatedNormArgs& args, Worker worker) {
  const int64_t live = live_rows(args.num_rows, args.out.dim(0));
  const int64_t heads = args.out.dim(1);
  const Worker::Range items = worker.share(args.out.dim(0) * heads);
  for (int64_t item = items.begin; item < items.end; ++item) {
    const int64_t t = item / heads;
    const int64_t h = item % heads;
    float* out = args.out.as<float>() + t * args.out.stride(0) + h * args.out.stride(1);
    if (t < live) {
      norm_head(args, args.x.as<const float>() + t * args.x.stride(0) + h * args.x.stride(1),
                args.z.as<const float>() + t * args.z.stride(0) + h * args.z.stride(1), out);
      continue;
    }
    for (int64_t d = 0; d < args.out.dim(2); ++d) out[d] = 0;
  }
}

}  // namespace lockstep::reference
