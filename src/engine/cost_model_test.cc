#include "engine/cost_model.h"

#include <gtest/gtest.h>

#include "engine/engine.h"
#include "model/builtin_configs.h"

namespace lockstep {
namespace {

Model model_of(const std::string& name, ComputeDType dtype = ComputeDType::kAuto) {
  Result<std::unique_ptr<ModelPlan>> plan =
      plan_model({.path = name, .format = LoadFormat::kDummy, .dtype = dtype});
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  return std::move((*plan)->model);
}

const OpCost& cost_of(const std::vector<OpCost>& costs, std::string_view op, std::string_view stage) {
  static const OpCost none;
  for (const OpCost& cost : costs) {
    if (cost.op == op && cost.stage == stage) return cost;
  }
  ADD_FAILURE() << "no cost of " << op << " " << stage;
  return none;
}

double bytes_of(const std::vector<OpCost>& costs) {
  double bytes = 0;
  for (const OpCost& cost : costs) bytes += cost.read + cost.written;
  return bytes;
}

// Qwen3-0.6B: 28 layers, E 1024, 16 heads over 8 of 128, F 3072, V 151936; two bytes per element.
TEST(CostModel, CountsADecodeStepOfQwen3ByHand) {
  const Model model = model_of("qwen3-0.6b");

  const std::vector<OpCost> costs =
      step_costs(model, {.sequences = {{.rows = 1, .length = 100}}, .logits_rows = 1});

  EXPECT_EQ(cost_of(costs, "linear", "qkv_proj").read, 28.0 * 4096 * 1024 * 2);
  EXPECT_EQ(cost_of(costs, "linear", "qkv_proj").flop, 28.0 * 4096 * 1024 * 2);
  EXPECT_EQ(cost_of(costs, "linear", "o_proj").read, 28.0 * 1024 * 2048 * 2);
  EXPECT_EQ(cost_of(costs, "linear", "gate_up").read, 28.0 * 6144 * 1024 * 2);
  EXPECT_EQ(cost_of(costs, "linear", "down").read, 28.0 * 1024 * 3072 * 2);
  EXPECT_EQ(cost_of(costs, "linear", "logits").read, 151936.0 * 1024 * 2);
  EXPECT_EQ(cost_of(costs, "embedding", "embedding").read, 1024.0 * 2);
  // Keys and values of a token: 28 layers * 2 * 8 * 128 * 2 bytes = 112 KiB.
  EXPECT_EQ(cost_of(costs, "paged_attention", "attention").read, 100.0 * 112 * 1024);
  EXPECT_EQ(cost_of(costs, "store_kv", "store_kv").written, 112.0 * 1024);
  // Two products of 16 * 128 per visible token.
  EXPECT_EQ(cost_of(costs, "paged_attention", "attention").flop, 28.0 * 4 * 100 * 2048);
  // Every matrix once: 440,401,920 weights of layers and 155,582,464 of the head.
  EXPECT_EQ(bytes_of(costs), 2 * (440401920.0 + 155582464.0) + 2048 + 101 * 112 * 1024);
}

TEST(CostModel, CountsWeightsOncePerStepAndProductsPerRow) {
  const Model model = model_of("qwen3-0.6b");

  const std::vector<OpCost> costs = step_costs(
      model, {.sequences = {{.rows = 512, .length = 512}, {.rows = 1, .length = 9}}, .logits_rows = 2});

  const OpCost& gate_up = cost_of(costs, "linear", "gate_up");
  EXPECT_EQ(gate_up.read, 28.0 * 6144 * 1024 * 2);
  EXPECT_EQ(gate_up.flop, 513 * 28.0 * 6144 * 1024 * 2);
  EXPECT_EQ(cost_of(costs, "linear", "logits").flop, 2 * 2 * 151936.0 * 1024);
  // Row i of the prompt sees i + 1 tokens: 512 * 513 / 2 pairs; the other sequence's row sees 9.
  EXPECT_EQ(cost_of(costs, "paged_attention", "attention").flop, 28.0 * 4 * 2048 * (512 * 513 / 2 + 9));
  EXPECT_EQ(cost_of(costs, "paged_attention", "attention").read, 521.0 * 112 * 1024);
}

// A chunk of a prompt reads what was cached before it as well.
TEST(CostModel, CountsTheContextOfALaterChunk) {
  const Model model = model_of("qwen3-0.6b");

  const std::vector<OpCost> costs = step_costs(model, {.sequences = {{.rows = 2, .length = 12}}});

  EXPECT_EQ(cost_of(costs, "paged_attention", "attention").flop, 28.0 * 4 * 2048 * (11 + 12));
  EXPECT_EQ(cost_of(costs, "paged_attention", "attention").read, 12.0 * 112 * 1024);
  for (const OpCost& cost : costs) EXPECT_NE(cost.stage, "logits") << "nothing is drawn in this step";
}

// qwen3-next-cut-cpu: 9 delta layers of 16 key and 32 value heads of 128, conv 4; 64 experts, 10 chosen.
TEST(CostModel, ReadsAndWritesTheStatesOfDeltaLayers) {
  const Model model = model_of("qwen3-next-cut-cpu");
  const double state = 9.0 * 32 * 128 * 128 * 4;        // 18.9 MB
  const double conv = 9.0 * (2 * 2048 + 4096) * 3 * 4;  // three inputs of each channel

  const std::vector<OpCost> costs = step_costs(
      model, {.sequences = {{.rows = 1, .length = 50}, {.rows = 7, .length = 7}}, .logits_rows = 2});

  // The second sequence begins here: its state is written, and nothing is read.
  EXPECT_EQ(cost_of(costs, "gated_delta", "delta").read, state);
  EXPECT_EQ(cost_of(costs, "gated_delta", "delta").written, 2 * state);
  EXPECT_EQ(cost_of(costs, "causal_conv", "conv").read, conv);
  EXPECT_EQ(cost_of(costs, "causal_conv", "conv").written, 2 * conv);
  EXPECT_EQ(cost_of(costs, "gated_delta", "delta").flop, 9 * 6 * 8.0 * 32 * 128 * 128);
  EXPECT_FALSE(cost_of(costs, "gated_delta", "delta").bf16) << "states are f32";
}

TEST(CostModel, ReadsTheExpertsThatEvenRoutingWouldChoose) {
  const Model model = model_of("qwen3-next-cut-cpu");
  const auto read_at = [&model](int64_t rows) {
    return cost_of(step_costs(model, {.sequences = {{.rows = rows, .length = rows}}}), "moe_down", "experts")
        .read;
  };
  const double expert = 12.0 * 2048 * 512 * 2;  // of all layers

  EXPECT_NEAR(read_at(1), 10 * expert, 1e-6 * expert);
  // 64 (1 - (54/64)^2) = 18.4375
  EXPECT_NEAR(read_at(2), 18.4375 * expert, 1e-6 * expert);
  EXPECT_NEAR(read_at(1000), 64 * expert, 1e-6 * expert);
}

TEST(CostModel, KnowsElementsOfFourBytesAndTheirRate) {
  const std::vector<OpCost> costs = step_costs(model_of("qwen3-0.6b", ComputeDType::kFloat32),
                                               {.sequences = {{.rows = 1, .length = 1}}, .logits_rows = 1});

  // bf16 weights are exact in f32 products; keys and values are f32.
  EXPECT_EQ(cost_of(costs, "linear", "down").read, 28.0 * 1024 * 3072 * 2);
  EXPECT_FALSE(cost_of(costs, "linear", "down").bf16);
  EXPECT_EQ(cost_of(costs, "store_kv", "store_kv").written, 2 * 112.0 * 1024);
}

constexpr Roofs kRoofs{
    .read_gb_per_s = 10, .copy_gb_per_s = 8, .f32_gflop_per_s = 100, .bf16_gflop_per_s = 200};

TEST(RoofTime, IsTheLargerOfMemoryAndArithmetic) {
  EXPECT_DOUBLE_EQ(roof_time(OpCost{.read = 10e9, .flop = 50e9}, kRoofs).seconds(), 1.0);
  EXPECT_EQ(roof_time(OpCost{.read = 10e9, .flop = 50e9}, kRoofs).binds(), "read");
  EXPECT_DOUBLE_EQ(roof_time(OpCost{.read = 10e9, .flop = 300e9}, kRoofs).seconds(), 3.0);
  EXPECT_EQ(roof_time(OpCost{.read = 10e9, .flop = 300e9}, kRoofs).binds(), "flop");
  EXPECT_DOUBLE_EQ(roof_time(OpCost{.flop = 300e9, .bf16 = true}, kRoofs).seconds(), 1.5);
}

// What is read and written back moves at the copy rate, which counts both directions.
TEST(RoofTime, CountsWhatIsWrittenAtTheCopyRate) {
  EXPECT_DOUBLE_EQ(roof_time(OpCost{.read = 4e9, .written = 4e9}, kRoofs).seconds(), 1.0);
  EXPECT_EQ(roof_time(OpCost{.read = 4e9, .written = 4e9}, kRoofs).binds(), "copy");
  EXPECT_DOUBLE_EQ(roof_time(OpCost{.read = 14e9, .written = 4e9}, kRoofs).seconds(), 2.0);
  EXPECT_DOUBLE_EQ(roof_time(OpCost{.written = 4e9}, kRoofs).seconds(), 0.5);
}

TEST(RoofTime, AddsUpOpByOp) {
  const std::vector<OpCost> costs = {{.read = 10e9}, {.flop = 200e9}, {.flop = 400e9, .bf16 = true}};

  const RoofTime time = roof_time(costs, kRoofs);

  EXPECT_DOUBLE_EQ(time.seconds(), 5.0);
  EXPECT_DOUBLE_EQ(time.flop_s, 4.0);
  EXPECT_EQ(time.binds(), "flop");
}

}  // namespace
}  // namespace lockstep
