// How checkpoints spell the same weights: what adopt_names takes from a header, and what is loaded then.
#include <gtest/gtest.h>

#include <string>

#include "model/families/families.h"
#include "model/weights.h"
#include "weights/test_support.h"
#include "weights/weight_fill.h"

namespace lockstep {
namespace {

DecoderSpec spec_of(std::string_view family_keys) {
  const std::string config = concat(R"({"hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 20,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "num_experts_per_tok": 2, )",
                                    family_keys, "}");
  return read_decoder_spec(parse_json(config, {}, "config.json").value()).value();
}

DecoderSpec minimax() { return spec_of(R"("model_type": "minimax_m2", "num_local_experts": 3)"); }
DecoderSpec qwen35_moe() {
  return spec_of(R"("model_type": "qwen3_5_moe_text", "num_experts": 3, "moe_intermediate_size": 8,
    "shared_expert_intermediate_size": 8, "linear_num_key_heads": 1, "linear_num_value_heads": 2,
    "linear_key_head_dim": 4, "linear_value_head_dim": 4, "linear_conv_kernel_dim": 4,
    "full_attention_interval": 2)");
}

// A checkpoint as `spec` spells it, experts packed or apart, and whatever `extra` names besides.
void write(RandomCheckpoint& checkpoint, const DecoderSpec& spec, bool packed,
           const std::vector<std::string>& extra = {}) {
  DecoderWeights unused;
  const WeightPlan plan = list_weights(spec, DType::kF32, unused);
  for (const TensorTarget& tensor : plan.tensors) checkpoint.add<float>(tensor.name, stored_shape(tensor));
  for (const MatrixTarget& matrix : plan.matrices) {
    const bool pack = packed && !matrix.otherwise.empty();
    for (const WeightPart& part : pack ? matrix.otherwise : matrix.parts) {
      const int64_t tensors = pack ? 1 : matrix.experts;
      for (int64_t expert = 0; expert < tensors; ++expert) {
        const Shape shape = pack ? Shape{matrix.experts, part.rows, matrix.k} : Shape{part.rows, matrix.k};
        checkpoint.add<float>(name_for_expert(part, expert), shape);
      }
    }
  }
  for (const std::string& name : extra) checkpoint.add<float>(name, {3});
}

// What is wrong with a checkpoint, once a family has adopted its names; empty: nothing.
std::string refusal(const DecoderSpec& family, const RandomCheckpoint& source) {
  const Checkpoint checkpoint = source.checkpoint();
  DecoderSpec spec = family;
  adopt_names(checkpoint, spec.naming);
  DecoderWeights weights;
  return check_weights(list_weights(spec, DType::kF32, weights), checkpoint).message();
}

struct Spelling {
  std::string prefix, head, moe, gate, up, down;
};
const Spelling kSpellings[] = {
    {"model.", "lm_head", "mlp.", "gate_proj", "up_proj", "down_proj"},
    {"model.language_model.", "lm_head", "mlp.", "gate_proj", "up_proj", "down_proj"},
    {"language_model.model.", "language_model.lm_head", "mlp.", "gate_proj", "up_proj", "down_proj"},
    {"model.", "lm_head", "block_sparse_moe.", "w1", "w3", "w2"},
    {"language_model.model.", "lm_head", "block_sparse_moe.", "gate_proj", "up_proj", "down_proj"},
    {"model.", "lm_head", "mlp.", "w1", "w3", "w2"},
};

TEST(AdoptNames, ReadsEverySpellingInEveryFamilyPackedOrApart) {
  for (const DecoderSpec& family : {minimax(), qwen35_moe()}) {
    for (const Spelling& s : kSpellings) {
      for (const bool packed : {false, true}) {
        SCOPED_TRACE(concat(family.family, " ", s.prefix, " ", s.moe, s.gate, packed ? " packed" : ""));
        DecoderSpec spelt = family;
        spelt.naming.prefix = s.prefix;
        spelt.naming.head = s.head;
        spelt.naming.moe = s.moe;
        spelt.naming.gate = s.gate;
        spelt.naming.up = s.up;
        spelt.naming.down = s.down;
        RandomCheckpoint source(3);
        write(source, spelt, packed);

        EXPECT_EQ(refusal(family, source), "");
      }
    }
  }
}

TEST(AdoptNames, KeepsWhatTheFamilySaysWhereTheHeaderShowsNothing) {
  WeightNaming naming = minimax().naming;
  RandomCheckpoint source(3);
  source.add<float>("something.else", {2});

  adopt_names(source.checkpoint(), naming);

  EXPECT_EQ(naming.prefix, "model.");
  EXPECT_EQ(naming.head, "lm_head");
  EXPECT_EQ(naming.moe, "block_sparse_moe.");
  EXPECT_EQ(naming.gate, "w1");
}

// The draft head of the same checkpoint may be spelt otherwise: only layers below the prefix count.
TEST(AdoptNames, LooksAtTheModelAloneAndNotAtItsDraftHead) {
  RandomCheckpoint source(3);
  write(source, qwen35_moe(), true,
        {"mtp.layers.0.mlp.experts.0.gate_proj.weight", "mtp.layers.0.block_sparse_moe.experts.0.w1.weight",
         "model.visual.blocks.0.norm1.weight", "visual.merger.norm.weight"});

  EXPECT_EQ(refusal(qwen35_moe(), source), "");
}

TEST(AdoptNames, LeavesATensorThatNoNameExplainsToBeRefused) {
  RandomCheckpoint source(3);
  write(source, minimax(), false, {"model.visual.blocks.0.norm1.weight"});

  EXPECT_EQ(refusal(minimax(), source),
            concat("minimax_m2: ", source.folder().path(),
                   "/model.safetensors holds 1 tensor that this family does not read, first "
                   "model.visual.blocks.0.norm1.weight [3] f32; expected none; check model_type in "
                   "config.json"));
}

TEST(AdoptNames, PutsW1WhereTheGateIsAndW3Behind) {
  RandomCheckpoint source(3);
  write(source, minimax(), false);
  const Checkpoint checkpoint = source.checkpoint();
  DecoderWeights weights;
  const auto loaded = load_weights(list_weights(minimax(), DType::kF32, weights), checkpoint, {});
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();

  const MoeWeights& moe = weights.layers[1].moe;
  const std::string expert = "model.layers.1.block_sparse_moe.experts.2.";
  for (int64_t row = 0; row < 8; ++row) {
    for (int64_t col = 0; col < 16; ++col) {
      ASSERT_EQ(element(moe.experts.gate_up, 2, row, col), source.at(expert + "w1.weight", row, col, 16));
      ASSERT_EQ(element(moe.experts.gate_up, 2, 8 + row, col), source.at(expert + "w3.weight", row, col, 16));
      ASSERT_EQ(element(moe.experts.down, 2, col, row), source.at(expert + "w2.weight", col, row, 8));
    }
  }
  for (int64_t x = 0; x < 3; ++x) {
    EXPECT_EQ(moe.bias.as<float>()[x],
              source.at("model.layers.1.block_sparse_moe.e_score_correction_bias", 0, x, 3));
  }
}

TEST(AdoptNames, TakesTheRowsOfPackedExpertsInTheOrderGateThenUp) {
  RandomCheckpoint source(3);
  write(source, qwen35_moe(), true);
  DecoderWeights weights;
  const Checkpoint checkpoint = source.checkpoint();
  const auto loaded = load_weights(list_weights(qwen35_moe(), DType::kF32, weights), checkpoint, {});
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();

  for (int64_t row = 0; row < 16; ++row) {
    for (int64_t col = 0; col < 16; ++col) {
      ASSERT_EQ(element(weights.layers[0].moe.experts.gate_up, 1, row, col),
                source.at("model.layers.0.mlp.experts.gate_up_proj", 16 + row, col, 16));
    }
  }
}

}  // namespace
}  // namespace lockstep
