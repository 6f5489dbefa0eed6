#include <cmath>

#include "kernels/gated_delta/gated_delta_kernels.h"

namespace lockstep {
namespace {

// A log decay below this leaves nothing either way; the bound keeps differences of sums finite.
constexpr double kLeastLogDecay = -1000;

double element(const TensorView& tensor, int64_t row, int64_t head) {
  return tensor.as<const float>()[row * tensor.stride(0) + head];
}

}  // namespace

void delta_gates(const GatedDeltaArgs& args, int64_t value_head, int64_t begin, int64_t count,
                 DeltaGates& gates) {
  const double rate = std::exp(static_cast<double>(args.a_log.as<const float>()[value_head]));
  const double bias = args.dt_bias.as<const float>()[value_head];
  double sums[kDeltaChunk];
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double x = element(args.a, begin + i, value_head) + bias;
    const double log_decay = -rate * (x > 20 ? x : std::log1p(std::exp(x)));
    sum += log_decay < kLeastLogDecay ? kLeastLogDecay : log_decay;
    sums[i] = sum;
    gates.beta[i] = static_cast<float>(1.0 / (1.0 + std::exp(-element(args.b, begin + i, value_head))));
  }
  for (int64_t i = 0; i < count; ++i) {
    gates.sum_high[i] = static_cast<float>(sums[i]);
    gates.sum_low[i] = static_cast<float>(sums[i] - gates.sum_high[i]);
    gates.decay_in[i] = static_cast<float>(std::exp(sums[i]));
    gates.decay_out[i] = static_cast<float>(std::exp(sum - sums[i]));
  }
  gates.decay_all = static_cast<float>(std::exp(sum));
}

}  // namespace lockstep
