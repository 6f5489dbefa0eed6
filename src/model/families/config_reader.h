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

// Refuse a key that is there and says otherwise; `expected` ends the sentence.
Status expect_true(const Json& config, std::string_view key, std::string_view expected);
Status expect_false(const Json& config, std::string_view key, std::string_view expected);
Status expect_text(const Json& config, std::string_view key, std::string_view value);

// width, vocab, layer count (layers default-made), positions, epsilon, tie flag; refuses biases and
// activations that no family here has.
Result<DecoderSpec> read_common(const Json& config, std::string_view family);

// heads, kv_heads, head_dim and the rotation; without a norm and a gate. `head_dim` stands in for a key that
// is not there; 0: the key must be there.
Result<SoftmaxMixerSpec> read_softmax(const Json& config, int32_t head_dim = 0);

// rope_theta and rope_scaling, or rope_parameters. rotary_dim dimensions where the config names them, else
// `head_dim` times partial_rotary_factor.
Result<RopeSpec> read_rope(const Json& config, int32_t head_dim);

// Delta layers, and gated softmax layers at every full_attention_interval; layer_types wins where it is
// there.
Status read_mixers(const Json& config, DecoderSpec& spec);

// heads and widths of the delta layers, linear_*.
Result<DeltaMixerSpec> read_delta(const Json& config);

// experts, choices, widths; and which layers are MoE (decoder_sparse_step, mlp_only_layers).
Status read_moe(const Json& config, DecoderSpec& spec);

}  // namespace lockstep
