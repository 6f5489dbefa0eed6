#include <cmath>

#include "kernels/all_heads_norm/all_heads_norm_kernels.h"

namespace lockstep::reference {
namespace {

const float* head_of(const TensorView& x, int64_t t, int64_t h) {
  return x.as<const float>() + t * x.stride(0) + h * x.stride(1);
}

}  // namespace

void head_squares(const HeadSquaresArgs& args, Worker worker) {
  const auto [begin, end] = worker.share(args.x.dim(0));
  for (int64_t t = begin; t < end; ++t) {
    double squares = 0.0;
    for (int64_t h = 0; t < args.num_rows->get() && h < args.counted_heads; ++h) {
      const float* x = head_of(args.x, t, h);
      for (int64_t i = 0; i < args.x.dim(2); ++i)
        squares += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    }
    args.out.as<float>()[t * args.out.stride(0)] = static_cast<float>(squares);
  }
}

void all_heads_norm(const AllHeadsNormArgs& args, Worker worker) {
  const int64_t heads = args.x.dim(1), size = args.x.dim(2);
  const double offset = args.flavour == NormFlavour::kZeroCentred ? 1.0 : 0.0;
  const auto [begin, end] = worker.share(args.x.dim(0));
  for (int64_t t = begin; t < end; ++t) {
    const bool live = t < args.num_rows->get();
    double scale = 0.0;
    if (live) {
      const double squares = args.squares.as<const float>()[t * args.squares.stride(0)];
      scale = 1.0 / std::sqrt(squares / static_cast<double>(args.width) + static_cast<double>(args.epsilon));
    }
    for (int64_t h = 0; h < heads; ++h) {
      const float* x = head_of(args.x, t, h);
      const float* weight = args.weight.as<const float>() + h * args.weight.stride(0);
      float* out = args.out.as<float>() + t * args.out.stride(0) + h * args.out.stride(1);
      for (int64_t i = 0; i < size; ++i)
        out[i] = live ? static_cast<float>(x[i] * scale * (offset + static_cast<double>(weight[i]))) : 0.0f;
    }
  }
}

}  // namespace lockstep::reference
