#include "model/decoder_spec.h"

#include <algorithm>

namespace lockstep {
namespace {

int64_t norm_parameters(const SoftmaxMixerSpec& a) {
  switch (a.qk_norm) {
    case QkNorm::kNone: return 0;
    case QkNorm::kPerHead: return 2 * a.head_dim;
    case QkNorm::kAllHeads: return int64_t{a.heads + a.kv_heads} * a.head_dim;
  }
  return 0;
}

int64_t mixer_parameters(const DecoderSpec& spec, Mixer mixer) {
  const int64_t width = spec.width;
  if (mixer == Mixer::kSoftmax) {
    const SoftmaxMixerSpec& a = spec.softmax;
    return width * (int64_t{a.projected_width()} + a.query_width()) + norm_parameters(a);
  }
  if (mixer == Mixer::kLightning) {
    const LightningMixerSpec& l = spec.lightning;
    return width * (int64_t{l.projected_width()} + l.query_width()) + (l.qk_norm ? 2 * l.head_dim : 0) +
           (l.output_norm ? l.query_width() : 0);
  }
  const DeltaMixerSpec& d = spec.delta;
  const int64_t projections = int64_t{d.conv_channels()} + d.value_width() + 2 * d.value_heads;
  return width * (projections + d.value_width()) + int64_t{d.conv_channels()} * d.conv_width +
         2 * d.value_heads + d.value_dim;
}

int64_t mlp_parameters(const DecoderSpec& spec, Mlp mlp, int64_t experts) {
  const int64_t width = spec.width;
  if (mlp == Mlp::kDense) return 3 * width * spec.dense_width;
  const MoeSpec& m = spec.moe;
  const int64_t shared = m.shared_width > 0 ? 3 * width * m.shared_width + width : 0;
  const int64_t bias = m.correction_bias ? m.experts : 0;
  return width * m.experts + bias + experts * 3 * width * m.expert_width + shared;
}

int64_t layer_parameters(const DecoderSpec& spec, int64_t experts) {
  int64_t total = spec.width;  // the final norm
  for (const LayerSpec& layer : spec.layers) {
    total += 2 * int64_t{spec.width} + mixer_parameters(spec, layer.mixer) +
             mlp_parameters(spec, layer.mlp, experts);
  }
  return total;
}

}  // namespace

int32_t DecoderSpec::count(Mixer mixer) const {
  return static_cast<int32_t>(std::count_if(
      layers.begin(), layers.end(), [mixer](const LayerSpec& layer) { return layer.mixer == mixer; }));
}

int32_t DecoderSpec::count(Mlp mlp) const {
  return static_cast<int32_t>(std::count_if(layers.begin(), layers.end(),
                                            [mlp](const LayerSpec& layer) { return layer.mlp == mlp; }));
}

int64_t DecoderSpec::parameters() const {
  return layer_parameters(*this, moe.held.count) + int64_t{vocab_rows.count} * width * (tied_head ? 1 : 2);
}

int64_t DecoderSpec::active_parameters() const {
  return layer_parameters(*this, moe.choices) + int64_t{vocab} * width;
}

}  // namespace lockstep
