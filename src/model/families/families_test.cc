#include "model/families/families.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "model/builtin_configs.h"

namespace lockstep {
namespace {

// A config as keys and the text of their values.
using Config = std::map<std::string, std::string>;

const Config kDense = {
    {"model_type", "\"qwen3\""}, {"hidden_size", "64"},        {"intermediate_size", "112"},
    {"num_hidden_layers", "3"},  {"num_attention_heads", "6"}, {"num_key_value_heads", "2"},
    {"head_dim", "16"},          {"vocab_size", "259"},        {"max_position_embeddings", "512"},
    {"rms_norm_eps", "1e-5"},    {"rope_theta", "1000000.0"}};

Config with(Config config, const Config& changes) {
  for (const auto& [key, value] : changes) config[key] = value;
  return config;
}
Config without(Config config, const std::string& key) {
  config.erase(key);
  return config;
}

const Config kMoe = with(kDense, {{"model_type", "\"qwen3_moe\""},
                                  {"num_hidden_layers", "4"},
                                  {"num_experts", "12"},
                                  {"num_experts_per_tok", "3"},
                                  {"moe_intermediate_size", "24"}});

const Config kNext = with(kMoe, {{"model_type", "\"qwen3_next\""},
                                 {"num_hidden_layers", "8"},
                                 {"head_dim", "32"},
                                 {"partial_rotary_factor", "0.25"},
                                 {"linear_num_key_heads", "2"},
                                 {"linear_num_value_heads", "6"},
                                 {"linear_key_head_dim", "16"},
                                 {"linear_value_head_dim", "8"},
                                 {"linear_conv_kernel_dim", "4"},
                                 {"shared_expert_intermediate_size", "40"}});

Result<DecoderSpec> read(const Config& config) {
  std::string text;
  for (const auto& [key, value] : config) text += concat(text.empty() ? "{" : ", ", "\"", key, "\": ", value);
  return read_decoder_spec(parse_json(text + "}", {}, "config.json").value());
}

DecoderSpec spec_of(const Config& config) {
  Result<DecoderSpec> spec = read(config);
  EXPECT_TRUE(spec.ok()) << spec.status().message();
  return spec.ok() ? *spec : DecoderSpec{};
}

// "SD" and so on: a letter per layer, S softmax, D delta, in capitals with experts.
std::string pattern_of(const DecoderSpec& spec) {
  std::string pattern;
  for (const LayerSpec& layer : spec.layers) {
    const char letter = layer.mixer == Mixer::kSoftmax ? 's' : 'd';
    pattern += layer.mlp == Mlp::kMoe ? static_cast<char>(letter - 'a' + 'A') : letter;
  }
  return pattern;
}

TEST(Qwen3, BecomesADenseDecoder) {
  const DecoderSpec spec = spec_of(kDense);

  EXPECT_EQ(spec.family, "qwen3");
  EXPECT_EQ(spec.width, 64);
  EXPECT_EQ(spec.vocab, 259);
  EXPECT_EQ(spec.max_positions, 512);
  EXPECT_EQ(spec.norm_epsilon, 1e-5f);
  EXPECT_EQ(spec.norm, NormFlavour::kPlain);
  EXPECT_FALSE(spec.tied_head);
  EXPECT_EQ(spec.dense_width, 112);
  EXPECT_EQ(spec.softmax.heads, 6);
  EXPECT_EQ(spec.softmax.kv_heads, 2);
  EXPECT_EQ(spec.softmax.head_dim, 16);
  EXPECT_EQ(spec.softmax.qk_norm, QkNorm::kPerHead);
  EXPECT_EQ(spec.softmax.output_gate, OutputGate::kNone);
  EXPECT_EQ(spec.softmax.rope.dims, 16);
  EXPECT_EQ(spec.softmax.rope.theta, 1e6);
  EXPECT_EQ(spec.softmax.rope.scaling, RopeSpec::Scaling::kNone);
  EXPECT_FALSE(spec.naming.grouped_delta_projections);
  EXPECT_EQ(pattern_of(spec), "sss");
  EXPECT_TRUE(spec_of(with(kDense, {{"tie_word_embeddings", "true"}})).tied_head);
}

TEST(Qwen3Moe, PutsExpertsWhereTheConfigSays) {
  const DecoderSpec spec = spec_of(kMoe);

  EXPECT_EQ(spec.moe.experts, 12);
  EXPECT_EQ(spec.moe.choices, 3);
  EXPECT_EQ(spec.moe.expert_width, 24);
  EXPECT_EQ(spec.moe.shared_width, 0);
  EXPECT_TRUE(spec.moe.normalise);
  EXPECT_EQ(spec.dense_width, 0);
  EXPECT_EQ(pattern_of(spec), "SSSS");
  EXPECT_EQ(pattern_of(spec_of(with(kMoe, {{"mlp_only_layers", "[1, 3]"}}))), "SsSs");
  EXPECT_EQ(pattern_of(spec_of(with(kMoe, {{"decoder_sparse_step", "2"}}))), "sSsS");
  EXPECT_EQ(pattern_of(spec_of(with(kMoe, {{"decoder_sparse_step", "2"}, {"mlp_only_layers", "[1]"}}))),
            "sssS");
  EXPECT_EQ(spec_of(with(kMoe, {{"mlp_only_layers", "[0]"}})).dense_width, 112);
  EXPECT_FALSE(spec_of(with(kMoe, {{"norm_topk_prob", "false"}})).moe.normalise);
}

TEST(Qwen3Next, MixesDeltaAndGatedSoftmaxLayers) {
  const DecoderSpec spec = spec_of(kNext);

  EXPECT_EQ(spec.norm, NormFlavour::kZeroCentred);
  EXPECT_EQ(spec.softmax.output_gate, OutputGate::kInQueries);
  EXPECT_EQ(spec.softmax.rope.dims, 8);
  EXPECT_EQ(spec.delta.key_heads, 2);
  EXPECT_EQ(spec.delta.value_heads, 6);
  EXPECT_EQ(spec.delta.key_dim, 16);
  EXPECT_EQ(spec.delta.value_dim, 8);
  EXPECT_EQ(spec.delta.conv_width, 4);
  EXPECT_EQ(spec.delta.conv_channels(), 2 * 2 * 16 + 6 * 8);
  EXPECT_EQ(spec.moe.shared_width, 40);
  EXPECT_TRUE(spec.naming.grouped_delta_projections);
  EXPECT_EQ(pattern_of(spec), "DDDSDDDS");
  EXPECT_EQ(pattern_of(spec_of(with(kNext, {{"full_attention_interval", "3"}}))), "DDSDDSDD");
  EXPECT_EQ(pattern_of(spec_of(with(kNext, {{"num_hidden_layers", "2"},
                                            {"layer_types", R"(["full_attention", "linear_attention"])"}}))),
            "SD");
}

RopeSpec rope_of(const Config& changes) { return spec_of(with(kNext, changes)).softmax.rope; }

TEST(Rope, IsReadFromOldAndNewConfigs) {
  const RopeSpec yarn = rope_of(
      {{"rope_scaling", R"({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128})"}});
  const RopeSpec llama3 = rope_of(
      {{"rope_scaling", R"({"type": "llama3", "factor": 8, "low_freq_factor": 2, "high_freq_factor": 5})"}});
  const RopeSpec fresh = rope_of(
      {{"rope_parameters",
        R"({"rope_type": "linear", "factor": 2.0, "rope_theta": 5000, "partial_rotary_factor": 0.5})"}});

  EXPECT_EQ(yarn.scaling, RopeSpec::Scaling::kYarn);
  EXPECT_EQ(yarn.factor, 4.0);
  EXPECT_EQ(yarn.original_max_positions, 128);
  EXPECT_EQ(yarn.beta_fast, 32);
  EXPECT_EQ(yarn.beta_slow, 1);
  EXPECT_EQ(yarn.attention_factor, 0);
  EXPECT_EQ(llama3.scaling, RopeSpec::Scaling::kLlama3);
  EXPECT_EQ(llama3.low_freq_factor, 2);
  EXPECT_EQ(llama3.high_freq_factor, 5);
  EXPECT_EQ(llama3.original_max_positions, 512);  // as the model's context, where nothing else is said
  EXPECT_EQ(fresh.scaling, RopeSpec::Scaling::kLinear);
  EXPECT_EQ(fresh.theta, 5000);
  EXPECT_EQ(fresh.dims, 16);
  EXPECT_EQ(rope_of({{"rope_scaling", "null"}}).scaling, RopeSpec::Scaling::kNone);
  EXPECT_EQ(rope_of({{"rope_parameters", R"({"rope_type": "default", "rope_theta": 7.5})"}}).theta, 7.5);
}

struct Refusal {
  Config config;
  Code code;
  std::string message;
};

TEST(Families, RefuseWhatTheyCannotRunInASentence) {
  const Code wrong = Code::kInvalidArgument, unknown = Code::kUnimplemented;
  const Refusal refusals[] = {
      {with(kDense, {{"model_type", "\"gpt2\""}}), unknown,
       "config.json: model_type is \"gpt2\"; expected one of qwen3, qwen3_moe, qwen3_next"},
      {without(kDense, "model_type"), wrong, "config.json: model_type is missing; expected a string"},
      {without(kDense, "hidden_size"), wrong,
       "config.json: hidden_size is missing; expected an integer in 1..262144"},
      {with(kDense, {{"hidden_size", "0"}}), wrong,
       "config.json: hidden_size is 0; expected an integer in 1..262144"},
      {with(kDense, {{"vocab_size", "1e9"}}), wrong,
       "config.json: vocab_size is 1e+09; expected an integer in 1..16777216"},
      {with(kDense, {{"num_hidden_layers", "5000"}}), wrong,
       "config.json: num_hidden_layers is 5000; expected an integer in 1..2048"},
      {with(kDense, {{"rms_norm_eps", "2"}}), wrong,
       "config.json: rms_norm_eps is 2; expected a number in 0..1"},
      {with(kDense, {{"hidden_act", "\"gelu\""}}), wrong,
       "config.json: hidden_act is \"gelu\"; expected \"silu\", the activation of this family"},
      {with(kDense, {{"attention_bias", "true"}}), wrong,
       "config.json: attention_bias is true; expected false: this family's projections have no bias"},
      {with(kDense, {{"use_sliding_window", "true"}}), wrong,
       "config.json: use_sliding_window is true; expected false: this family attends to the whole "
       "context"},
      {with(kDense, {{"tie_word_embeddings", "1"}}), wrong,
       "config.json: tie_word_embeddings is 1; expected true or false"},
      {with(kDense, {{"num_key_value_heads", "4"}}), wrong,
       "config.json: num_attention_heads is 6; expected a multiple of num_key_value_heads = 4"},
      {with(kDense, {{"head_dim", "7"}}), wrong,
       "config.json: head_dim is 7, of which 7 dimensions are rotated; expected an even number of them"},
      {with(kDense, {{"rope_scaling", R"({"type": "dynamic", "factor": 2})"}}), unknown,
       "config.json: rope_scaling: rope_type is \"dynamic\"; expected default, linear, llama3 or yarn"},
      {with(kDense, {{"rope_scaling", R"({"rope_type": "linear"})"}}), wrong,
       "config.json: rope_scaling.factor is missing; expected a number in 1..1e+06"},
      {with(kMoe, {{"num_experts_per_tok", "13"}}), wrong,
       "config.json: num_experts_per_tok is 13; expected an integer in 1..12"},
      {with(kMoe, {{"mlp_only_layers", "[0, \"x\"]"}}), wrong,
       "config.json: mlp_only_layers[1] is \"x\"; expected an integer in 0..2048"},
      {without(with(kMoe, {{"mlp_only_layers", "[0]"}}), "intermediate_size"), wrong,
       "config.json: intermediate_size is missing; expected an integer in 1..262144"},
      {with(kNext, {{"layer_types", R"(["full_attention"])"}}), wrong,
       "config.json: layer_types has 1 entries; expected num_hidden_layers = 8"},
      {with(kNext, {{"num_hidden_layers", "1"}, {"layer_types", R"(["window"])"}}), wrong,
       "config.json: layer_types[0] is \"window\"; expected \"full_attention\" or \"linear_attention\""},
      {with(kNext, {{"linear_num_value_heads", "5"}}), wrong,
       "config.json: linear_num_value_heads is 5; expected a multiple of linear_num_key_heads = 2"},
      {with(kNext, {{"linear_conv_kernel_dim", "1"}}), wrong,
       "config.json: linear_conv_kernel_dim is 1; expected an integer in 2..16"},
      {without(kNext, "shared_expert_intermediate_size"), wrong,
       "config.json: shared_expert_intermediate_size is missing; expected an integer in 1..262144"},
  };
  for (const Refusal& refusal : refusals) {
    const Result<DecoderSpec> spec = read(refusal.config);
    ASSERT_FALSE(spec.ok()) << refusal.message;
    EXPECT_EQ(spec.status().message(), refusal.message);
    EXPECT_EQ(spec.status().code(), refusal.code) << refusal.message;
  }
}

TEST(Families, AreFoundByTypeAndKnowTheirArchitecture) {
  std::string listed;
  for (const ModelFamily& family : model_families())
    listed += concat(family.model_type, "=", family.architecture, " ");
  EXPECT_EQ(listed, "qwen3=Qwen3ForCausalLM qwen3_moe=Qwen3MoeForCausalLM qwen3_next=Qwen3NextForCausalLM ");
}

// Added up by hand from the shapes of the published checkpoints.
TEST(DecoderSpec, CountsTheParametersOfTheBuiltInConfigs) {
  struct Size {
    const char* name;
    int64_t parameters;
    int64_t active;
  };
  for (const Size& size : {Size{"qwen3-0.6b", 596'049'920, 596'049'920},
                           {"qwen3-8b", 8'190'735'360, 8'190'735'360 - 151936 * 4096ll},
                           {"qwen3-30b-a3b", 30'532'122'624, 3'041'867'776},
                           {"qwen3-next-cut-cpu", 3'462'902'976, 1'113'306'304},
                           {"qwen3-next-cut-gpu", 40'148'361'600, 1'937'465'728},
                           {"tiny-next-2048", 52'632'048, 31'660'528}}) {
    const BuiltinConfig* config = find_builtin_config(size.name);
    ASSERT_NE(config, nullptr) << size.name;
    const Result<DecoderSpec> spec = read_decoder_spec(parse_json(config->json, {}, size.name).value());
    ASSERT_TRUE(spec.ok()) << spec.status().message();
    EXPECT_EQ(spec->parameters(), size.parameters) << size.name;
    EXPECT_EQ(spec->active_parameters(), size.active) << size.name;
  }
  EXPECT_EQ(builtin_configs().size(), 6u);
  EXPECT_EQ(find_builtin_config("qwen3"), nullptr);
}

}  // namespace
}  // namespace lockstep
