#include "model/families/config_reader.h"

#include <algorithm>

namespace lockstep {
namespace {

Result<RopeSpec::Scaling> read_scaling(const Json& scaling, const RopeSpec& rope) {
  std::string type = LS_TRY(scaling.string_or("rope_type", ""));
  if (type.empty()) type = LS_TRY(scaling.string_or("type", "default"));
  if (type == "default" || rope.dims == 0) return RopeSpec::Scaling::kNone;
  if (type == "linear") return RopeSpec::Scaling::kLinear;
  if (type == "llama3") return RopeSpec::Scaling::kLlama3;
  if (type == "yarn") return RopeSpec::Scaling::kYarn;
  return error(Code::kUnimplemented, scaling.where(), ": rope_type is \"", type,
               "\"; expected default, linear, llama3 or yarn");
}

}  // namespace

Result<int32_t> config_int(const Json& config, std::string_view key, int64_t min, int64_t max) {
  return static_cast<int32_t>(LS_TRY(config.integer(key, min, max)));
}

Status expect_true(const Json& config, std::string_view key, std::string_view expected) {
  if (LS_TRY(config.boolean_or(key, true))) return {};
  return config.find(key)->refuse(expected);
}

Status expect_false(const Json& config, std::string_view key, std::string_view expected) {
  if (!LS_TRY(config.boolean_or(key, false))) return {};
  return config.find(key)->refuse(expected);
}

Status expect_text(const Json& config, std::string_view key, std::string_view value) {
  const std::string given = LS_TRY(config.string_or(key, value));
  if (given == value) return {};
  return config.find(key)->refuse(concat('"', value, "\", the one that this family has"));
}

Result<DecoderSpec> read_common(const Json& config, std::string_view family) {
  DecoderSpec spec;
  spec.family = family;
  spec.width = LS_TRY(config_int(config, "hidden_size", 1, kMaxWidth));
  spec.vocab = LS_TRY(config_int(config, "vocab_size", 1, kMaxVocab));
  spec.vocab_rows.count = spec.vocab;
  spec.layers.resize(static_cast<size_t>(LS_TRY(config_int(config, "num_hidden_layers", 1, kMaxLayers))));
  spec.max_positions = LS_TRY(config_int(config, "max_position_embeddings", 1, kMaxPositions));
  spec.norm_epsilon = static_cast<float>(LS_TRY(config.number("rms_norm_eps", 0.0, 1.0)));
  spec.tied_head = LS_TRY(config.boolean_or("tie_word_embeddings", false));
  LS_TRY(expect_text(config, "hidden_act", "silu"));
  LS_TRY(expect_false(config, "attention_bias", "false: this family's projections have no bias"));
  LS_TRY(expect_false(config, "use_sliding_window", "false: this family attends to the whole context"));
  return spec;
}

namespace {

Result<int32_t> read_rotary_dims(const Json& config, const Json& rope, int32_t head_dim) {
  const double fallback = LS_TRY(config.number_or("partial_rotary_factor", 1.0, 0.0, 1.0));
  const double partial = LS_TRY(rope.number_or("partial_rotary_factor", fallback, 0.0, 1.0));
  const auto of_head = static_cast<int64_t>(static_cast<double>(head_dim) * partial);
  const int64_t dims = LS_TRY(config.integer_or("rotary_dim", of_head, 0, head_dim));
  if (dims % 2 == 0) return static_cast<int32_t>(dims);
  return error(Code::kInvalidArgument, config.where(), " gives a head ", head_dim, " dimensions, of which ",
               dims, " are rotated; expected an even number of them");
}

}  // namespace

Result<RopeSpec> read_rope(const Json& config, int32_t head_dim) {
  RopeSpec rope;
  // transformers 5 writes one object; older files write rope_theta and rope_scaling beside each other.
  const std::optional<Json> parameters = config.find("rope_parameters");
  const Json& source = parameters ? *parameters : config;
  const double theta = LS_TRY(config.number_or("rope_theta", 10000.0, 1.0, 1e12));
  rope.theta = LS_TRY(source.number_or("rope_theta", theta, 1.0, 1e12));
  rope.dims = LS_TRY(read_rotary_dims(config, source, head_dim));
  const std::optional<Json> scaling = parameters ? parameters : config.find("rope_scaling");
  if (!scaling) return rope;
  rope.scaling = LS_TRY(read_scaling(*scaling, rope));
  if (rope.scaling == RopeSpec::Scaling::kNone) return rope;
  // Of YaRN as other models have it: left unread, they would turn heads by other angles without a word.
  for (const char* key : {"mscale", "mscale_all_dim", "truncate"}) {
    if (const std::optional<Json> unread = scaling->find(key))
      return error(Code::kUnimplemented, unread->where(), " is given; expected none, as in Llama and Qwen");
  }
  rope.factor = LS_TRY(scaling->number("factor", 1.0, 1e6));
  rope.low_freq_factor = LS_TRY(scaling->number_or("low_freq_factor", 1.0, 1e-3, 1e6));
  rope.high_freq_factor = LS_TRY(scaling->number_or("high_freq_factor", 4.0, 1e-3, 1e6));
  rope.beta_fast = LS_TRY(scaling->number_or("beta_fast", 32.0, 1e-3, 1e6));
  rope.beta_slow = LS_TRY(scaling->number_or("beta_slow", 1.0, 1e-3, 1e6));
  rope.attention_factor = LS_TRY(scaling->number_or("attention_factor", 0.0, 0.0, 1e3));
  const auto positions =
      static_cast<double>(LS_TRY(config.integer("max_position_embeddings", 1, kMaxPositions)));
  rope.original_max_positions =
      LS_TRY(scaling->number_or("original_max_position_embeddings", positions, 1.0, 1e9));
  return rope;
}

Result<SoftmaxMixerSpec> read_softmax(const Json& config, int32_t head_dim) {
  SoftmaxMixerSpec mixer;
  mixer.heads = LS_TRY(config_int(config, "num_attention_heads", 1, kMaxHeads));
  mixer.kv_heads = LS_TRY(config_int(config, "num_key_value_heads", 1, kMaxHeads));
  const bool derived = head_dim > 0 && !config.find("head_dim");
  mixer.head_dim = derived ? head_dim : LS_TRY(config_int(config, "head_dim", 1, kMaxHeadDim));
  if (mixer.heads % mixer.kv_heads != 0) {
    return config.find("num_attention_heads")
        ->refuse(concat("a multiple of num_key_value_heads = ", mixer.kv_heads));
  }
  mixer.normed_heads = mixer.heads;
  mixer.normed_kv_heads = mixer.counted_kv_heads = mixer.kv_heads;
  mixer.rope = LS_TRY(read_rope(config, mixer.head_dim));
  return mixer;
}

Status read_mixers(const Json& config, DecoderSpec& spec) {
  const std::optional<Json> types = config.find("layer_types");
  if (!types) {
    const int64_t interval = LS_TRY(config.integer_or("full_attention_interval", 4, 1, kMaxLayers));
    for (size_t i = 0; i < spec.layers.size(); ++i) {
      const bool full = (static_cast<int64_t>(i) + 1) % interval == 0;
      spec.layers[i].mixer = full ? Mixer::kSoftmax : Mixer::kDelta;
    }
    return {};
  }
  if (types->size() != spec.layers.size()) {
    return error(Code::kInvalidArgument, types->where(), " has ", types->size(),
                 " entries; expected num_hidden_layers = ", spec.layers.size());
  }
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const std::string type = LS_TRY((*types)[i].as_string());
    if (type != "full_attention" && type != "linear_attention") {
      return (*types)[i].refuse("\"full_attention\" or \"linear_attention\"");
    }
    spec.layers[i].mixer = type == "full_attention" ? Mixer::kSoftmax : Mixer::kDelta;
  }
  return {};
}

Result<DeltaMixerSpec> read_delta(const Json& config) {
  DeltaMixerSpec delta;
  delta.key_heads = LS_TRY(config_int(config, "linear_num_key_heads", 1, kMaxHeads));
  delta.value_heads = LS_TRY(config_int(config, "linear_num_value_heads", 1, kMaxHeads));
  delta.key_dim = LS_TRY(config_int(config, "linear_key_head_dim", 1, kMaxHeadDim));
  delta.value_dim = LS_TRY(config_int(config, "linear_value_head_dim", 1, kMaxHeadDim));
  delta.conv_width = LS_TRY(config_int(config, "linear_conv_kernel_dim", 2, 16));
  if (delta.value_heads % delta.key_heads == 0) return delta;
  return config.find("linear_num_value_heads")
      ->refuse(concat("a multiple of linear_num_key_heads = ", delta.key_heads));
}

Status read_moe(const Json& config, DecoderSpec& spec) {
  spec.moe.experts = LS_TRY(config_int(config, "num_experts", 1, kMaxExperts));
  spec.moe.held.count = spec.moe.experts;
  spec.moe.choices = LS_TRY(config_int(config, "num_experts_per_tok", 1, spec.moe.experts));
  spec.moe.expert_width = LS_TRY(config_int(config, "moe_intermediate_size", 1, kMaxWidth));
  spec.moe.normalise = LS_TRY(config.boolean_or("norm_topk_prob", true));
  const int64_t step = LS_TRY(config.integer_or("decoder_sparse_step", 1, 1, kMaxLayers));
  std::vector<int64_t> dense;
  if (const std::optional<Json> list = config.find("mlp_only_layers")) {
    dense = LS_TRY(list->as_integers(0, kMaxLayers));
  }
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const bool listed = std::find(dense.begin(), dense.end(), static_cast<int64_t>(i)) != dense.end();
    const bool moe = !listed && (static_cast<int64_t>(i) + 1) % step == 0;
    spec.layers[i].mlp = moe ? Mlp::kMoe : Mlp::kDense;
  }
  if (spec.count(Mlp::kDense) > 0) {
    spec.dense_width = LS_TRY(config_int(config, "intermediate_size", 1, kMaxWidth));
  }
  return {};
}

}  // namespace lockstep
