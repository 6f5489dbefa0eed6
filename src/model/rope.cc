#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace lockstep {
namespace {

double llama3_frequency(const RopeSpec& rope, double frequency) {
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  const double original = rope.original_max_positions;
  if (wavelength < original / rope.high_freq_factor) return frequency;
  if (wavelength > original / rope.low_freq_factor) return frequency / rope.factor;
  const double smooth =
      (original / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  return (1.0 - smooth) * frequency / rope.factor + smooth * frequency;
}

// Interpolates slow dimensions, keeps fast ones, and ramps between the two rotation counts.
double yarn_frequency(const RopeSpec& rope, double frequency, int32_t i) {
  const auto correction = [&rope](double rotations) {
    return rope.dims * std::log(rope.original_max_positions / (2.0 * std::numbers::pi * rotations)) /
           (2.0 * std::log(rope.theta));
  };
  const double low = std::max(0.0, std::floor(correction(rope.beta_fast)));
  double high = std::min(rope.dims - 1.0, std::ceil(correction(rope.beta_slow)));
  if (low == high) high += 0.001;
  const double ramp = std::clamp((i - low) / (high - low), 0.0, 1.0);
  return frequency / rope.factor * ramp + frequency * (1.0 - ramp);
}

}  // namespace

std::vector<float> rope_frequencies(const RopeSpec& rope) {
  std::vector<float> frequencies(static_cast<size_t>(rope.dims / 2));
  for (int32_t i = 0; i < rope.dims / 2; ++i) {
    // In f32, as torch computes 1 / theta ** (arange / dims).
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(rope.dims);
    double frequency = 1.0f / std::pow(static_cast<float>(rope.theta), exponent);
    switch (rope.scaling) {
      case RopeSpec::Scaling::kNone: break;
      case RopeSpec::Scaling::kLinear: frequency /= rope.factor; break;
      case RopeSpec::Scaling::kLlama3: frequency = llama3_frequency(rope, frequency); break;
      case RopeSpec::Scaling::kYarn: frequency = yarn_frequency(rope, frequency, i); break;
    }
    frequencies[static_cast<size_t>(i)] = static_cast<float>(frequency);
  }
  return frequencies;
}

float rope_magnitude(const RopeSpec& rope) {
  if (rope.scaling != RopeSpec::Scaling::kYarn) return 1.0f;
  return static_cast<float>(rope.attention_factor > 0.0 ? rope.attention_factor
                                                        : 0.1 * std::log(rope.factor) + 1.0);
}

}  // namespace lockstep
