#include "model/families/families.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

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

const Config kLlama = with(without(kDense, "head_dim"), {{"model_type", "\"llama\""}, {"hidden_size", "96"}});

const Config kQwen35 = with(kNext, {{"model_type", "\"qwen3_5_text\""}, {"intermediate_size", "112"}});

const Config kMiniMax = with(kDense, {{"model_type", "\"minimax_m2\""},
                                      {"head_dim", "32"},
                                      {"rotary_dim", "8"},
                                      {"num_local_experts", "12"},
                                      {"num_experts_per_tok", "3"}});

std::string text_of(const Config& config) {
  std::string text;
  for (const auto& [key, value] : config) text += concat(text.empty() ? "{" : ", ", "\"", key, "\": ", value);
  return text + "}";
}

Result<DecoderSpec> read(const Config& config) {
  return read_decoder_spec(parse_json(text_of(config), {}, "config.json").value());
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

TEST(Llama, HasNoNormOfQueriesAndMayLeaveItsHeadSizeAway) {
  const DecoderSpec spec = spec_of(kLlama);

  EXPECT_EQ(spec.family, "llama");
  EXPECT_EQ(spec.norm, NormFlavour::kPlain);
  EXPECT_EQ(spec.softmax.qk_norm, QkNorm::kNone);
  EXPECT_EQ(spec.softmax.head_dim, 96 / 6);
  EXPECT_EQ(spec.softmax.rope.dims, 16);
  EXPECT_EQ(spec.dense_width, 112);
  EXPECT_EQ(pattern_of(spec), "sss");
  EXPECT_EQ(spec_of(with(kLlama, {{"head_dim", "32"}})).softmax.head_dim, 32);
  EXPECT_TRUE(spec.naming.skipped.empty());
}

TEST(Qwen35, IsQwen3NextWithFlatProjections) {
  const DecoderSpec dense = spec_of(kQwen35);
  const DecoderSpec moe = spec_of(with(kQwen35, {{"model_type", "\"qwen3_5_moe_text\""}}));

  EXPECT_EQ(dense.family, "qwen3_5");
  EXPECT_EQ(moe.family, "qwen3_5_moe");
  EXPECT_EQ(pattern_of(dense), "dddsddds");
  EXPECT_EQ(pattern_of(moe), "DDDSDDDS");
  EXPECT_EQ(dense.dense_width, 112);
  EXPECT_EQ(moe.moe.shared_width, 40);
  for (const DecoderSpec& spec : {dense, moe}) {
    EXPECT_EQ(spec.norm, NormFlavour::kZeroCentred);
    EXPECT_EQ(spec.softmax.qk_norm, QkNorm::kPerHead);
    EXPECT_EQ(spec.softmax.output_gate, OutputGate::kInQueries);
    EXPECT_EQ(spec.delta.value_heads, 6);
    EXPECT_FALSE(spec.naming.grouped_delta_projections);
    EXPECT_EQ(spec.naming.skipped, (std::vector<std::string>{"mtp.", "model.visual.", "visual."}));
  }
}

// The numbers of the text half lie in text_config, the tie of the head beside it.
TEST(Qwen35, ReadsTheTextHalfOfAModelThatAlsoSees) {
  for (const char* family : {"qwen3_5", "qwen3_5_moe"}) {
    const Config inner = with(without(kQwen35, "rope_theta"),
                              {{"model_type", concat("\"", family, "_text\"")},
                               {"rope_parameters", R"({"rope_type": "default", "rope_theta": 7e6,
                                 "partial_rotary_factor": 0.5, "mrope_section": [11, 11, 10]})"}});
    const Config outer = {{"model_type", concat("\"", family, "\"")},
                          {"text_config", text_of(inner)},
                          {"vision_config", R"({"hidden_size": 7})"}};

    const DecoderSpec nested = spec_of(outer);
    const DecoderSpec tied = spec_of(with(outer, {{"tie_word_embeddings", "true"}}));

    EXPECT_EQ(nested.family, family);
    EXPECT_EQ(nested.width, 64);
    EXPECT_EQ(nested.softmax.rope.theta, 7e6);
    EXPECT_EQ(nested.softmax.rope.dims, 16);
    EXPECT_EQ(nested.parameters(), spec_of(inner).parameters());
    EXPECT_FALSE(nested.tied_head);
    EXPECT_TRUE(tied.tied_head);
    EXPECT_TRUE(spec_of(with(inner, {{"tie_word_embeddings", "true"}})).tied_head);
  }
}

TEST(MiniMaxM2, NormsOverAllHeadsAndRoutesBySigmoids) {
  const DecoderSpec spec = spec_of(kMiniMax);

  EXPECT_EQ(spec.family, "minimax_m2");
  EXPECT_EQ(spec.softmax.qk_norm, QkNorm::kAllHeads);
  EXPECT_EQ(spec.softmax.normed_heads, 6);
  EXPECT_EQ(spec.softmax.normed_kv_heads, 2);
  EXPECT_EQ(spec.softmax.counted_kv_heads, 2);
  EXPECT_EQ(spec.softmax.rope.dims, 8);
  EXPECT_EQ(spec.moe.experts, 12);
  EXPECT_EQ(spec.moe.choices, 3);
  EXPECT_EQ(spec.moe.expert_width, 112);
  EXPECT_EQ(spec.moe.shared_width, 0);
  EXPECT_EQ(spec.moe.scoring, MoeScoring::kSigmoid);
  EXPECT_TRUE(spec.moe.correction_bias);
  EXPECT_TRUE(spec.moe.normalise);
  EXPECT_EQ(pattern_of(spec), "SSS");
  EXPECT_EQ(spec.naming.moe, "block_sparse_moe.");
  EXPECT_EQ(spec.naming.gate + spec.naming.up + spec.naming.down, "w1w3w2");
  const DecoderSpec drafts =
      spec_of(with(kMiniMax, {{"num_mtp_modules", "2"}, {"use_routing_bias", "false"}}));
  EXPECT_EQ(drafts.naming.skipped,
            (std::vector<std::string>{"mtp.", "model.mtp.", "model.layers.3.", "model.layers.4."}));
  EXPECT_FALSE(drafts.moe.correction_bias);
  const Config newer = with(without(kMiniMax, "rotary_dim"),
                            {{"rope_parameters", R"({"rope_theta": 5e6, "partial_rotary_factor": 0.5})"}});
  EXPECT_EQ(spec_of(newer).softmax.rope.dims, 16);
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

constexpr Code kWrong = Code::kInvalidArgument, kUnknown = Code::kUnimplemented;

void expect_refusals(const std::vector<Refusal>& refusals) {
  for (const Refusal& refusal : refusals) {
    const Result<DecoderSpec> spec = read(refusal.config);
    ASSERT_FALSE(spec.ok()) << refusal.message;
    EXPECT_EQ(spec.status().message(), refusal.message);
    EXPECT_EQ(spec.status().code(), refusal.code) << refusal.message;
  }
}

TEST(Families, RefuseWhatTheyCannotRunInASentence) {
  expect_refusals({
      {with(kDense, {{"model_type", "\"gpt2\""}}), kUnknown,
       "config.json: model_type is \"gpt2\"; expected one of llama, minicpm_sala, minimax_m2, "
       "qwen3, qwen3_moe, qwen3_next, qwen3_5, qwen3_5_text, qwen3_5_moe, qwen3_5_moe_text"},
      {without(kDense, "model_type"), kWrong, "config.json: model_type is missing; expected a string"},
      {without(kDense, "hidden_size"), kWrong,
       "config.json: hidden_size is missing; expected an integer in 1..262144"},
      {with(kDense, {{"hidden_size", "0"}}), kWrong,
       "config.json: hidden_size is 0; expected an integer in 1..262144"},
      {with(kDense, {{"vocab_size", "1e9"}}), kWrong,
       "config.json: vocab_size is 1e+09; expected an integer in 1..16777216"},
      {with(kDense, {{"num_hidden_layers", "5000"}}), kWrong,
       "config.json: num_hidden_layers is 5000; expected an integer in 1..2048"},
      {with(kDense, {{"rms_norm_eps", "2"}}), kWrong,
       "config.json: rms_norm_eps is 2; expected a number in 0..1"},
      {with(kDense, {{"hidden_act", "\"gelu\""}}), kWrong,
       "config.json: hidden_act is \"gelu\"; expected \"silu\", the one that this family has"},
      {with(kDense, {{"attention_bias", "true"}}), kWrong,
       "config.json: attention_bias is true; expected false: this family's projections have no bias"},
      {with(kDense, {{"use_sliding_window", "true"}}), kWrong,
       "config.json: use_sliding_window is true; expected false: this family attends to the whole "
       "context"},
      {with(kDense, {{"tie_word_embeddings", "1"}}), kWrong,
       "config.json: tie_word_embeddings is 1; expected true or false"},
      {with(kDense, {{"num_key_value_heads", "4"}}), kWrong,
       "config.json: num_attention_heads is 6; expected a multiple of num_key_value_heads = 4"},
      {with(kDense, {{"head_dim", "7"}}), kWrong,
       "config.json: the document gives a head 7 dimensions, of which 7 are rotated; expected an even number "
       "of them"},
      {with(kDense, {{"rope_scaling", R"({"type": "dynamic", "factor": 2})"}}), kUnknown,
       "config.json: rope_scaling: rope_type is \"dynamic\"; expected default, linear, llama3 or yarn"},
      {with(kDense, {{"rope_scaling", R"({"rope_type": "linear"})"}}), kWrong,
       "config.json: rope_scaling.factor is missing; expected a number in 1..1e+06"},
      {with(kDense, {{"rope_scaling", R"({"rope_type": "yarn", "factor": 2, "mscale": 0.7})"}}), kUnknown,
       "config.json: rope_scaling.mscale is given; expected none, as in Llama and Qwen"},
      {with(kMoe, {{"num_experts_per_tok", "13"}}), kWrong,
       "config.json: num_experts_per_tok is 13; expected an integer in 1..12"},
      {with(kMoe, {{"mlp_only_layers", "[0, \"x\"]"}}), kWrong,
       "config.json: mlp_only_layers[1] is \"x\"; expected an integer in 0..2048"},
      {without(with(kMoe, {{"mlp_only_layers", "[0]"}}), "intermediate_size"), kWrong,
       "config.json: intermediate_size is missing; expected an integer in 1..262144"},
      {with(kNext, {{"layer_types", R"(["full_attention"])"}}), kWrong,
       "config.json: layer_types has 1 entries; expected num_hidden_layers = 8"},
      {with(kNext, {{"num_hidden_layers", "1"}, {"layer_types", R"(["window"])"}}), kWrong,
       "config.json: layer_types[0] is \"window\"; expected \"full_attention\" or \"linear_attention\""},
      {with(kNext, {{"linear_num_value_heads", "5"}}), kWrong,
       "config.json: linear_num_value_heads is 5; expected a multiple of linear_num_key_heads = 2"},
      {with(kNext, {{"linear_conv_kernel_dim", "1"}}), kWrong,
       "config.json: linear_conv_kernel_dim is 1; expected an integer in 2..16"},
      {without(kNext, "shared_expert_intermediate_size"), kWrong,
       "config.json: shared_expert_intermediate_size is missing; expected an integer in 1..262144"},
  });
}

TEST(Families, RefuseVariantsOfThemselvesThatTheyDoNotHave) {
  expect_refusals({
      {with(kLlama, {{"mlp_bias", "true"}}), kWrong,
       "config.json: mlp_bias is true; expected false: this family's projections have no bias"},
      {with(kQwen35, {{"attn_output_gate", "false"}}), kWrong,
       "config.json: attn_output_gate is false; expected true: this family's attention is gated"},
      {{{"model_type", "\"qwen3_5\""}, {"text_config", "{}"}},
       kWrong,
       "config.json: text_config.hidden_size is missing; expected an integer in 1..262144"},
      {with(kMiniMax, {{"scoring_func", "\"softmax\""}}), kWrong,
       "config.json: scoring_func is \"softmax\"; expected \"sigmoid\", the one that this family has"},
      {with(kMiniMax, {{"use_qk_norm", "false"}}), kWrong,
       "config.json: use_qk_norm is false; expected true: this family norms queries and keys"},
      {with(kMiniMax, {{"qk_norm_type", "\"per_head\""}}), kWrong,
       "config.json: qk_norm_type is \"per_head\"; expected \"per_layer\", the one that this family has"},
      {with(kMiniMax, {{"attn_type_list", "[1, 0, 1]"}}), kUnknown,
       "config.json: attn_type_list has a layer that is not 1; expected softmax attention, 1, in every "
       "layer"},
      {with(kMiniMax, {{"shared_intermediate_size", "8"}}), kWrong,
       "config.json: shared_intermediate_size is 8; expected 0: no expert is shared"},
      {with(kMiniMax, {{"rotary_dim", "33"}}), kWrong,
       "config.json: rotary_dim is 33; expected an integer in 0..32"},
  });
}

TEST(Families, AreFoundByTypeAndKnowTheirArchitecture) {
  std::string listed;
  for (const ModelFamily& family : model_families())
    listed += concat(family.model_type, "=", family.architecture, " ");
  EXPECT_EQ(listed,
            "llama=LlamaForCausalLM minicpm_sala=MiniCPMSALAForCausalLM minimax_m2=MiniMaxM2ForCausalLM "
            "qwen3=Qwen3ForCausalLM qwen3_moe=Qwen3MoeForCausalLM qwen3_next=Qwen3NextForCausalLM "
            "qwen3_5=Qwen3_5ForConditionalGeneration qwen3_5_text=Qwen3_5ForCausalLM "
            "qwen3_5_moe=Qwen3_5MoeForConditionalGeneration qwen3_5_moe_text=Qwen3_5MoeForCausalLM ");
}

}  // namespace
}  // namespace lockstep
