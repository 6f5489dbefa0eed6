#include "model/weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

#include "model/builtin_configs.h"
#include "model/families/families.h"
#include "model/test_support.h"
#include "weights/weight_fill.h"

namespace lockstep {

std::string golden(const std::string& family) {
  return std::string(LOCKSTEP_SOURCE_DIR) + "/tests/golden/" + family;
}

namespace {

using Shapes = std::map<std::string, Shape>;

// Every tensor that a list reads from a checkpoint, with a tensor per expert where there is none.
Shapes shapes_of(const WeightPlan& plan, const Checkpoint* checkpoint = nullptr) {
  Shapes shapes;
  for (const TensorTarget& tensor : plan.tensors)
    shapes[tensor.name] = tensor.stored.rank > 0 ? tensor.stored : tensor.shape;
  for (const MatrixTarget& matrix : plan.matrices) {
    const bool packed =
        checkpoint != nullptr && !matrix.otherwise.empty() && checkpoint->contains(matrix.otherwise[0].name);
    for (const WeightPart& part : matrix.otherwise)
      if (packed) shapes[part.name] = {matrix.experts, part.rows, matrix.k};
    for (int64_t expert = 0; !packed && expert < matrix.experts; ++expert) {
      for (const WeightPart& part : matrix.parts)
        shapes[name_for_expert(part, expert)] = {part.rows, matrix.k};
    }
  }
  return shapes;
}

// The checkpoints were written by the reference implementation: it decides what there is.
TEST(ListWeights, NamesExactlyTheTensorsOfTheReferenceWithTheirShapes) {
  for (const std::string family : {"qwen3", "qwen3_moe", "qwen3_next", "llama", "minimax_m2", "qwen3_5",
                                   "qwen3_5_moe", "qwen3_5_moe_per_expert"}) {
    const Checkpoint checkpoint = Checkpoint::open(golden(family)).value();
    DecoderWeights weights;
    const WeightPlan plan = list_weights(golden_spec(family), DType::kF32, weights);

    const Shapes listed = shapes_of(plan, &checkpoint);

    for (const auto& [name, shape] : listed) {
      const StoredTensor* stored = checkpoint.find(name);
      ASSERT_NE(stored, nullptr) << family << " has no " << name;
      EXPECT_EQ(stored->shape, shape) << family << " " << name;
    }
    const Status status = check_weights(plan, checkpoint);  // and nothing is left over
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_TRUE(family.starts_with(plan.family)) << family;
  }
}

TEST(ListWeights, AddsUpToTheParametersOfTheSpec) {
  for (const BuiltinConfig& config : builtin_configs()) {
    const DecoderSpec spec = read_decoder_spec(parse_json(config.json, {}, config.name).value()).value();
    DecoderWeights weights;
    int64_t elements = 0;
    for (const auto& [name, shape] : shapes_of(list_weights(spec, DType::kBF16, weights)))
      elements += shape.elements();

    EXPECT_EQ(elements, spec.parameters()) << config.name;
  }
}

TEST(ListWeights, ReadsThePackedFormOfExpertsWithTheSameRows) {
  DecoderWeights weights;
  const DecoderSpec spec = golden_spec("qwen3_moe");
  std::map<std::string, int64_t> packed;
  for (const MatrixTarget& matrix : list_weights(spec, DType::kF32, weights).matrices) {
    for (const WeightPart& part : matrix.otherwise) packed[part.name] = part.rows;
  }

  EXPECT_EQ(packed.size(), 6u);  // two for each of the three layers with experts
  EXPECT_EQ(packed.at("model.layers.0.mlp.experts.gate_up_proj"), 2 * spec.moe.expert_width);
  EXPECT_EQ(packed.at("model.layers.3.mlp.experts.down_proj"), spec.width);
}

// Where the reference finds row r of [q | k | v | z] or [b | a]: it views the projection as one group per key
// head, splits each group, and joins the parts of all groups.
using SourceRow = std::pair<std::string, int64_t>;

std::vector<SourceRow> reference_rows(const DeltaMixerSpec& d, const std::string& prefix) {
  const int64_t per_key = d.value_heads / d.key_heads;
  const int64_t group = 2 * d.key_dim + 2 * per_key * d.value_dim;
  std::vector<SourceRow> q, k, v, z, b, a;
  for (int64_t head = 0; head < d.key_heads; ++head) {
    int64_t row = head * group;
    const auto take = [&](std::vector<SourceRow>& into, int64_t count) {
      while (count-- > 0) into.emplace_back(prefix + "in_proj_qkvz.weight", row++);
    };
    take(q, d.key_dim);
    take(k, d.key_dim);
    take(v, per_key * d.value_dim);
    take(z, per_key * d.value_dim);
    for (int64_t i = 0; i < per_key; ++i) {
      b.emplace_back(prefix + "in_proj_ba.weight", head * 2 * per_key + i);
      a.emplace_back(prefix + "in_proj_ba.weight", head * 2 * per_key + per_key + i);
    }
  }
  std::vector<SourceRow> rows;
  for (const std::vector<SourceRow>* part : {&q, &k, &v, &z, &b, &a})
    rows.insert(rows.end(), part->begin(), part->end());
  return rows;
}

TEST(ListWeights, TakesGroupedDeltaProjectionsApart) {
  DecoderSpec spec = golden_spec("qwen3_next");
  for (const auto& [key_heads, value_heads] : {std::pair(2, 6), {1, 4}, {3, 3}}) {
    spec.delta.key_heads = key_heads;
    spec.delta.value_heads = value_heads;
    DecoderWeights weights;
    const WeightPlan plan = list_weights(spec, DType::kF32, weights);
    const auto in = std::find_if(plan.matrices.begin(), plan.matrices.end(), [&](const MatrixTarget& matrix) {
      return matrix.into == &weights.layers[0].delta.in;
    });
    ASSERT_NE(in, plan.matrices.end());

    std::vector<SourceRow> rows;
    for (const RowSegment& segment : segments_of(in->parts)) {
      ASSERT_EQ(segment.target_row, static_cast<int64_t>(rows.size()));
      for (int64_t i = 0; i < segment.count; ++i)
        rows.emplace_back(segment.part->name, segment.source_row + i);
    }

    EXPECT_EQ(rows, reference_rows(spec.delta, "model.layers.0.linear_attn."))
        << key_heads << " key heads, " << value_heads << " value heads";
  }
}

TEST(ListWeights, ReadsPlainDeltaProjectionsAsTheyAre) {
  DecoderSpec spec = golden_spec("qwen3_next");
  spec.naming.grouped_delta_projections = false;
  DecoderWeights weights;
  const Shapes shapes = shapes_of(list_weights(spec, DType::kF32, weights));
  const std::string p = "model.layers.0.linear_attn.";

  EXPECT_EQ(shapes.at(p + "in_proj_qkv.weight"), Shape({2 * 2 * 16 + 6 * 16, 48}));
  EXPECT_EQ(shapes.at(p + "in_proj_z.weight"), Shape({6 * 16, 48}));
  EXPECT_EQ(shapes.at(p + "in_proj_b.weight"), Shape({6, 48}));
  EXPECT_EQ(shapes.at(p + "in_proj_a.weight"), Shape({6, 48}));
  EXPECT_EQ(shapes.count(p + "in_proj_qkvz.weight"), 0u);
}

TEST(ListWeights, MayIgnoreOnlyWhatNoLayerReads) {
  DecoderSpec spec = golden_spec("qwen3");
  DecoderWeights tied, untied;
  spec.tied_head = true;
  const WeightPlan with_tie = list_weights(spec, DType::kF32, tied);
  spec.tied_head = false;
  const WeightPlan without_tie = list_weights(spec, DType::kF32, untied);

  EXPECT_TRUE(with_tie.may_ignore("lm_head.weight"));
  EXPECT_FALSE(without_tie.may_ignore("lm_head.weight"));
  EXPECT_FALSE(with_tie.may_ignore("mtp.layers.0.mlp.down_proj.weight"));
  EXPECT_TRUE(with_tie.may_ignore("model.layers.0.self_attn.rotary_emb.inv_freq"));
  EXPECT_FALSE(with_tie.may_ignore("model.layers.0.self_attn.q_proj.bias"));
  EXPECT_EQ(shapes_of(with_tie).count("lm_head.weight"), 0u);
  EXPECT_EQ(shapes_of(without_tie).at("lm_head.weight"), Shape({259, 64}));
}

}  // namespace
}  // namespace lockstep
