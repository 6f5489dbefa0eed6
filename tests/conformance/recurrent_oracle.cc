#include <cmath>

#include "conformance/recurrent_rig.h"

namespace lockstep::conformance {
namespace {

double silu(double x) { return x / (1.0 + std::exp(-x)); }
double softplus(double x) { return x > 30 ? x : std::log1p(std::exp(x)); }

// x / |x|, times `scale`.
std::vector<double> normalised(std::span<const double> x, double scale) {
  double squares = 1e-6;
  for (const double value : x) squares += value * value;
  std::vector<double> unit(x.begin(), x.end());
  for (double& value : unit) value *= scale / std::sqrt(squares);
  return unit;
}

// The convolution's output for this row; the row becomes the newest input of the state.
std::vector<double> convolve(const RecurrentOptions& options, const DeltaWeights& weights,
                             std::span<const float> x, DeltaState& state) {
  const auto channels = static_cast<size_t>(options.channels());
  const auto window = static_cast<size_t>(options.conv_width);
  state.inputs.resize((window - 1) * channels);
  std::vector<double> out(channels);
  for (size_t c = 0; c < channels; ++c) {
    double sum = static_cast<double>(weights.conv[c * window + window - 1]) * x[c];
    for (size_t j = 0; j + 1 < window; ++j)
      sum += static_cast<double>(weights.conv[c * window + j]) * state.inputs[j * channels + c];
    out[c] = silu(sum);
  }
  state.inputs.erase(state.inputs.begin(), state.inputs.begin() + static_cast<int64_t>(channels));
  state.inputs.insert(state.inputs.end(), x.begin(), x.end());
  return out;
}

void advance_lightning(const RecurrentOptions& options, const DeltaWeights& weights, const DeltaRow& row,
                       DeltaState& state, std::span<double> out) {
  const auto keys = static_cast<size_t>(options.key_dim), values = static_cast<size_t>(options.value_dim);
  const auto heads = static_cast<size_t>(options.value_heads);
  const size_t group = heads / static_cast<size_t>(options.key_heads);
  const double scale = 1 / std::sqrt(static_cast<double>(keys));
  state.memory.resize(heads * keys * values);
  for (size_t h = 0; h < heads; ++h) {
    const auto q = row.x.subspan(h * keys, keys);
    const auto k = row.x.subspan(static_cast<size_t>(options.keys()) + h / group * keys, keys);
    const auto v = row.x.subspan(static_cast<size_t>(options.values()) + h / group * values, values);
    double* memory = state.memory.data() + h * keys * values;
    for (size_t e = 0; e < values; ++e) {
      double sum = 0;
      for (size_t d = 0; d < keys; ++d) {
        double& at = memory[d * values + e];
        at = at * weights.a_log[h] + static_cast<double>(k[d]) * v[e];
        sum += at * q[d] * scale;
      }
      out[h * values + e] = sum;
    }
  }
}

}  // namespace

void advance(const RecurrentOptions& options, const DeltaWeights& weights, const DeltaRow& row,
             DeltaState& state, std::span<double> out) {
  if (options.lightning()) return advance_lightning(options, weights, row, state, out);
  const auto keys = static_cast<size_t>(options.key_dim), values = static_cast<size_t>(options.value_dim);
  const auto key_heads = static_cast<size_t>(options.key_heads);
  const auto value_heads = static_cast<size_t>(options.value_heads);
  const std::vector<double> mixed = convolve(options, weights, row.x, state);
  const std::span<const double> all(mixed);
  state.memory.resize(value_heads * keys * values);
  for (size_t h = 0; h < value_heads; ++h) {
    const size_t shared = h / (value_heads / key_heads);
    const auto q = normalised(all.subspan(shared * keys, keys), 1 / std::sqrt(static_cast<double>(keys)));
    const auto k = normalised(all.subspan((key_heads + shared) * keys, keys), 1);
    const auto v = all.subspan(2 * key_heads * keys + h * values, values);
    const double beta = 1 / (1 + std::exp(-static_cast<double>(row.b[h])));
    const double decay = std::exp(-std::exp(static_cast<double>(weights.a_log[h])) *
                                  softplus(static_cast<double>(row.a[h]) + weights.dt_bias[h]));
    double* memory = state.memory.data() + h * keys * values;
    for (size_t e = 0; e < values; ++e) {
      double known = 0, sum = 0;
      for (size_t d = 0; d < keys; ++d) known += (memory[d * values + e] *= decay) * k[d];
      const double delta = beta * (v[e] - known);
      for (size_t d = 0; d < keys; ++d) sum += (memory[d * values + e] += k[d] * delta) * q[d];
      out[h * values + e] = sum;
    }
  }
}

}  // namespace lockstep::conformance
