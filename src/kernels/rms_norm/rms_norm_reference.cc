#include <cmath>

#include "kernels/rms_norm/rms_norm_kernels.h"

namespace lockstep::reference {

void rms_norm(const RmsNormArgs& args, Worker worker) {
  const auto* x = args.x.as<const float>();
  const auto* weight = args.weight.as<const float>();
  auto* residual = static_cast<float*>(args.residual.data);
  auto* out = args.out.as<float>();
  const int64_t width = args.x.dim(1);
  const float offset = args.flavour == NormFlavour::kZeroCentred ? 1.0f : 0.0f;
  const auto [begin, end] = worker.share(args.x.dim(0));
  for (int64_t t = begin; t < end; ++t) {
    const float* from = x + t * args.x.stride(0);
    float* sum = residual == nullptr ? nullptr : residual + t * args.residual.stride(0);
    float* to = out + t * args.out.stride(0);
    if (t >= args.num_rows->get()) {
      for (int64_t i = 0; i < width; ++i) to[i] = 0.0f;
      for (int64_t i = 0; sum != nullptr && i < width; ++i) sum[i] = 0.0f;
      continue;
    }
    for (int64_t i = 0; sum != nullptr && i < width; ++i) sum[i] += from[i] * args.x_scale;
    const float* s = sum == nullptr ? from : sum;
    double squares = 0.0;
    for (int64_t i = 0; i < width; ++i) squares += static_cast<double>(s[i]) * static_cast<double>(s[i]);
    const double mean = squares / static_cast<double>(width);
    const auto scale =
        static_cast<float>(args.out_scale / std::sqrt(mean + static_cast<double>(args.epsilon)));
    for (int64_t i = 0; i < width; ++i) to[i] = s[i] * scale * (offset + weight[i]);
  }
}

}  // namespace lockstep::reference
