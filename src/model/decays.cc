#include "model/decays.h"

#include <bit>
#include <cmath>

namespace lockstep {
namespace {

double slope(int32_t head, int32_t heads) {
  const auto power = static_cast<int32_t>(std::bit_floor(static_cast<uint32_t>(heads)));
  if (head < power) return std::exp2(-8.0 * (head + 1) / power);
  return std::exp2(-8.0 * (2 * (head - power) + 1) / (2.0 * power));
}

}  // namespace

std::vector<float> lightning_decays(const LightningMixerSpec& spec) {
  std::vector<float> decays;
  for (int32_t h = 0; h < spec.heads; ++h)
    decays.push_back(static_cast<float>(std::exp(-slope(spec.first_head + h, spec.model_heads))));
  return decays;
}

}  // namespace lockstep
