#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "model/builtin_configs.h"
#include "model/families/families.h"
#include "model/shard.h"

namespace lockstep {
namespace {

// The config of tiny-sala with `from` turned into `to`.
Result<DecoderSpec> read_with(const std::string& from, const std::string& to) {
  std::string text(find_builtin_config("tiny-sala")->json);
  const size_t at = text.find(from);
  EXPECT_NE(at, text.npos) << from;
  if (at != text.npos) text.replace(at, from.size(), to);
  return read_decoder_spec(parse_json(text, {}, "config.json").value());
}

std::string refusal(const std::string& from, const std::string& to) {
  const Result<DecoderSpec> spec = read_with(from, to);
  EXPECT_FALSE(spec.ok()) << to;
  return spec.ok() ? "" : spec.status().message();
}

TEST(MiniCpmSala, MixesLightningAndSoftmaxLayers) {
  const DecoderSpec spec = read_with("{", "{").value();

  EXPECT_EQ(spec.family, "minicpm_sala");
  EXPECT_EQ(spec.norm, NormFlavour::kPlain);
  ASSERT_EQ(spec.layers.size(), 4u);
  EXPECT_EQ(spec.layers[0].mixer, Mixer::kSoftmax);
  EXPECT_EQ(spec.layers[1].mixer, Mixer::kLightning);
  EXPECT_EQ(spec.layers[2].mixer, Mixer::kLightning);
  EXPECT_EQ(spec.layers[3].mixer, Mixer::kSoftmax);
  EXPECT_EQ(spec.recurrent_layers(), 2);
  EXPECT_EQ(spec.softmax.heads, 16);
  EXPECT_EQ(spec.softmax.kv_heads, 2);
  EXPECT_EQ(spec.softmax.rope.dims, 0) << "its softmax layers know no positions";
  EXPECT_EQ(spec.softmax.qk_norm, QkNorm::kNone);
  EXPECT_EQ(spec.softmax.output_gate, OutputGate::kOwnProjection);
  EXPECT_EQ(spec.softmax.projected_width(), 2 * 16 * 64 + 2 * 2 * 64);
  EXPECT_EQ(spec.lightning.heads, 8);
  EXPECT_EQ(spec.lightning.model_heads, 8);
  EXPECT_EQ(spec.lightning.rope.dims, 64);
  EXPECT_EQ(spec.rope().dims, 64);
  EXPECT_TRUE(spec.lightning.qk_norm);
  EXPECT_TRUE(spec.lightning.output_norm);
  EXPECT_EQ(spec.lightning.output_gate, OutputGate::kOwnProjection);
  EXPECT_EQ(spec.lightning.scale, 0.125f);
  EXPECT_EQ(spec.lightning.projected_width(), 4 * 8 * 64);
  EXPECT_EQ(spec.dense_width, 1024);
}

TEST(MiniCpmSala, HasThreeMultipliers) {
  const DecoderSpec spec = read_with("{", "{").value();

  EXPECT_EQ(spec.multipliers.embedding, 12.0f);
  EXPECT_EQ(spec.multipliers.branch, 0.7f) << "1.4 / sqrt(4 layers)";
  EXPECT_EQ(spec.multipliers.logits, 0.5f) << "256 / 512";
  const Multipliers released =
      read_decoder_spec(parse_json(find_builtin_config("minicpm-sala")->json, {}, "").value())
          .value()
          .multipliers;
  EXPECT_FLOAT_EQ(released.branch, 0.24748737f);
  EXPECT_EQ(released.logits, 1.0f / 16);
}

// Added up by hand from the shapes of the published checkpoint.
TEST(MiniCpmSala, CountsItsParameters) {
  const Json json = parse_json(find_builtin_config("minicpm-sala")->json, {}, "minicpm-sala").value();
  const DecoderSpec released = read_decoder_spec(json).value();

  EXPECT_EQ(released.count(Mixer::kSoftmax), 8);
  EXPECT_EQ(released.count(Mixer::kLightning), 24);
  EXPECT_EQ(released.parameters(), 9'477'203'968);
  EXPECT_EQ(released.active_parameters(), 9'477'203'968 - 73448 * 4096ll);
  EXPECT_EQ(read_with("{", "{").value().parameters(), 13'375'232);
}

TEST(MiniCpmSala, ReadsTheSparseLayersInBlocks) {
  const SparseSpec sparse = read_with("{", "{").value().softmax.sparse.value();

  EXPECT_EQ(sparse.block, 64);
  EXPECT_EQ(sparse.kernel, 32);
  EXPECT_EQ(sparse.stride, 16);
  EXPECT_EQ(sparse.init_blocks, 1);
  EXPECT_EQ(sparse.top_blocks, 4);
  EXPECT_EQ(sparse.window_blocks, 2);
  EXPECT_EQ(sparse.dense_len, 1024);
  EXPECT_EQ(sparse.most_blocks(), 6);
  EXPECT_FALSE(read_with("\"sparse_config\"", "\"other\"").value().softmax.sparse.has_value());
}

TEST(MiniCpmSala, KnowsTheOtherNamesOfItsMixers) {
  for (const char* name : {"minicpm", "attention", "attn"})
    EXPECT_EQ(read_with("minicpm4", name).value().layers[0].mixer, Mixer::kSoftmax) << name;
  for (const char* name : {"lightning", "lightning_attn"})
    EXPECT_EQ(read_with("lightning-attn", name).value().layers[1].mixer, Mixer::kLightning) << name;
}

TEST(MiniCpmSala, LeavesAwayWhatTheConfigTurnsOff) {
  const auto off = [](const std::string& key) {
    return read_with("\"qk_norm\": true", "\"" + key + "\": false").value();
  };
  EXPECT_FALSE(off("qk_norm").lightning.qk_norm);
  EXPECT_FALSE(off("use_output_norm").lightning.output_norm);
  EXPECT_EQ(off("use_output_gate").lightning.output_gate, OutputGate::kNone);
  EXPECT_EQ(off("attn_use_output_gate").softmax.output_gate, OutputGate::kNone);
  EXPECT_EQ(read_with("\"lightning_use_rope\": true", "\"lightning_use_rope\": false").value().rope().dims,
            0);
}

TEST(MiniCpmSala, RefusesWhatItCannotRunInASentence) {
  EXPECT_EQ(refusal("minicpm4", "mamba"),
            "config.json: mixer_types[0] is \"mamba\"; expected \"minicpm4\" or \"lightning-attn\"");
  EXPECT_EQ(refusal("[\"minicpm4\", ", "["),
            "config.json: mixer_types has 3 entries; expected num_hidden_layers = 4");
  EXPECT_EQ(refusal("\"lightning_nkv\": 8", "\"lightning_nkv\": 3"),
            "config.json: lightning_nh is 8; expected a multiple of lightning_nkv = 3");
  EXPECT_EQ(
      refusal("\"attn_use_rope\": false", "\"attn_use_rope\": true"),
      "config.json: attn_use_rope is true; expected false: this family's softmax layers know no positions");
  EXPECT_EQ(refusal("\"window_size\": 128", "\"window_size\": 100"),
            "config.json: sparse_config.window_size is 100; expected a multiple of block_size = 64");
  EXPECT_EQ(refusal("\"qk_norm\": true", "\"lightning_scale\": \"1\""),
            "config.json: lightning_scale is \"1\"; expected \"1/sqrt(d)\", the one that this family has");
}

TEST(MiniCpmSala, GivesEachRankItsHeadsByTheirNumberInTheModel) {
  const DecoderSpec whole = read_with("{", "{").value();
  const DecoderSpec second = shard(whole, {.tp_rank = 1, .tp = 2}).value();

  EXPECT_EQ(second.lightning.heads, 4);
  EXPECT_EQ(second.lightning.kv_heads, 4);
  EXPECT_EQ(second.lightning.first_head, 4);
  EXPECT_EQ(second.lightning.model_heads, 8);
  const DecoderSpec odd =
      read_with(R"("lightning_nh": 8, "lightning_nkv": 8)", R"("lightning_nh": 3, "lightning_nkv": 3)")
          .value();
  EXPECT_EQ(shard(odd, {.tp = 2}).status().message(),
            "--tensor-parallel-size is 2; expected a divisor of lightning_nh = 3; choose 1");
}

}  // namespace
}  // namespace lockstep
