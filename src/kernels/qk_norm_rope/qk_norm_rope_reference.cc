#include <cmath>

#include "kernels/qk_norm_rope/qk_norm_rope_kernels.h"

namespace lockstep::reference {
namespace {

void zero(float* out, int64_t count) {
  for (int64_t i = 0; i < count; ++i) out[i] = 0.0f;
}

// to = norm(from), or a copy without a weight.
void norm_head(const QkNormRopeArgs& args, const float* from, float* to) {
  const int64_t width = args.x.dim(2);
  if (!args.weight) {
    for (int64_t i = 0; i < width; ++i) to[i] = from[i];
    return;
  }
  const auto* weight = args.weight.as<const float>();
  const float offset = args.flavour == NormFlavour::kZeroCentred ? 1.0f : 0.0f;
  double squares = 0.0;
  for (int64_t i = 0; i < width; ++i) squares += static_cast<double>(from[i]) * static_cast<double>(from[i]);
  const double mean = squares / static_cast<double>(width);
  const auto scale = static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(args.epsilon)));
  for (int64_t i = 0; i < width; ++i) to[i] = from[i] * scale * (offset + weight[i]);
}

void rotate_head(const float* cos_sin, int64_t half, float* to) {
  for (int64_t i = 0; i < half; ++i) {
    const float first = to[i], second = to[i + half];
    const float cosine = cos_sin[i], sine = cos_sin[half + i];
    to[i] = first * cosine - second * sine;
    to[i + half] = second * cosine + first * sine;
  }
}

}  // namespace

void rope_angles(const RopeAnglesArgs& args, Worker worker) {
  const auto* positions = args.positions.as<const int32_t>();
  const auto* inv_freq = args.inv_freq.as<const float>();
  const int64_t half = args.inv_freq.dim(0);
  const auto [begin, end] = worker.share(args.positions.dim(0));
  for (int64_t t = begin; t < end; ++t) {
    float* to = args.cos_sin.as<float>() + t * args.cos_sin.stride(0);
    if (t >= args.num_rows->get()) {
      zero(to, 2 * half);
      continue;
    }
    for (int64_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(positions[t * args.positions.stride(0)]) * inv_freq[i];
      to[i] = std::cos(angle) * args.magnitude;
      to[half + i] = std::sin(angle) * args.magnitude;
    }
  }
}

void qk_norm_rope(const QkNormRopeArgs& args, Worker worker) {
  const auto* cos_sin = static_cast<const float*>(args.cos_sin.data);
  const int64_t half = cos_sin == nullptr ? 0 : args.cos_sin.dim(1) / 2;
  const int64_t heads = args.x.dim(1), width = args.x.dim(2);
  const auto [begin, end] = worker.share(args.x.dim(0));
  for (int64_t t = begin; t < end; ++t) {
    for (int64_t h = 0; h < heads; ++h) {
      float* to = args.out.as<float>() + t * args.out.stride(0) + h * args.out.stride(1);
      if (t >= args.num_rows->get()) {
        zero(to, width);
        continue;
      }
      norm_head(args, args.x.as<const float>() + t * args.x.stride(0) + h * args.x.stride(1), to);
      if (half > 0) rotate_head(cos_sin + t * args.cos_sin.stride(0), half, to);
    }
  }
}

}  // namespace lockstep::reference
