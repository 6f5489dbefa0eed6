#include "model/state_geometry.h"

#include <algorithm>

namespace lockstep {

StateGeometry state_geometry(const DecoderSpec& spec, int32_t slots) {
  if (spec.count(Mixer::kLightning) > 0) {
    const LightningMixerSpec& l = spec.lightning;
    return {.slots = slots, .value_heads = l.heads, .key_dim = l.head_dim, .value_dim = l.head_dim};
  }
  const DeltaMixerSpec& d = spec.delta;
  return {.slots = slots,
          .conv_channels = d.conv_channels(),
          .conv_width = std::max(d.conv_width, 1),
          .value_heads = d.value_heads,
          .key_dim = d.key_dim,
          .value_dim = d.value_dim};
}

}  // namespace lockstep
