// What the families' configs have in common.
#pragma once

#include "json/json.h"
#include "model/decoder_spec.h"

namespace lockstep {

// Bounds of config numbers: far above any model, and low enough that the parameters of the largest config,
// layers * experts * 3 * width^2 = 2^62.6, still fit 63 bits.
inline constexpr int64_t kMaxWidth = 1 << 18;
inline constexpr int64_t kMaxLayers = 1 << 11;
inline constexpr int64_t kMaxHeads = 4096;
inline constexpr int64_t kMaxHeadDim = 4096;
inline constexpr int64_t kMaxVocab = 1 << 24;
inline constexpr int64_t kMaxExperts = 1 << 13;
inline constexpr int64_t kMaxPositions = 1 << 28;

// An int32 member that must be there, in min..max.
Result<int32_t> config_int(const Json& config, std::string_view key, int64_t min, int64_t max);

// width, vocab, layer count (layers default-made), positions, epsilon, tie flag; refuses biases and
// activations that no family here has.
Result<DecoderSpec> read_common(const Json& config, std::string_view family);

// heads, kv_heads, head_dim with qk_norm set, and the rotation of `partial` times head_dim.
Result<SoftmaxMixerSpec> read_softmax(const Json& config);

// rope_theta and rope_scaling, or rope_parameters; `head_dim` times partial_rotary_factor dimensions.
Result<RopeSpec> read_rope(const Json& config, int32_t head_dim);

// experts, choices, widths; and which layers are MoE (decoder_sparse_step, mlp_only_layers).
Status read_moe(const Json& config, DecoderSpec& spec);

}  // namespace lockstep
