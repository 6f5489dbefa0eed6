#include "weights/weight_loader.h"

#include <gtest/gtest.h>

#include "weights/test_support.h"

namespace lockstep {
namespace {

float rounded(DType dtype, float value) {
  return with_float_type(dtype, [&]<typename T>() { return static_cast<float>(T(value)); });
}

struct Format {
  DType dtype;
  WeightLayout layout;
  friend std::ostream& operator<<(std::ostream& out, const Format& format) {
    return out << format.dtype << (format.layout == WeightLayout::kRowMajor ? " rows" : " panels");
  }
};

class WeightFormat : public testing::TestWithParam<Format> {
 protected:
  DType dtype() const { return GetParam().dtype; }
  WeightLayout layout() const { return GetParam().layout; }
};

INSTANTIATE_TEST_SUITE_P(All, WeightFormat,
                         testing::Values(Format{DType::kF32, WeightLayout::kRowMajor},
                                         Format{DType::kF32, WeightLayout::kPanel32},
                                         Format{DType::kF16, WeightLayout::kPanel32},
                                         Format{DType::kBF16, WeightLayout::kRowMajor},
                                         Format{DType::kBF16, WeightLayout::kPanel32}));

TEST_P(WeightFormat, StacksPartsOfAnyFloatTypeAlongTheOutputs) {
  const int64_t k = 37;  // odd, so that a panel's last group is padded
  RandomCheckpoint source(1);
  source.add<float>("q.weight", {21, k});
  source.add<BFloat16>("k.weight", {5, k});
  source.add<Float16>("v.weight", {6, k});
  PackedWeight qkv;
  WeightPlan plan{.family = "toy"};
  plan.matrices.push_back({.into = &qkv,
                           .name = "qkv",
                           .k = k,
                           .dtype = dtype(),
                           .layout = layout(),
                           .parts = {{.name = "q.weight", .rows = 21},
                                     {.name = "k.weight", .rows = 5},
                                     {.name = "v.weight", .rows = 6}}});

  const auto weights = load_weights(plan, source.checkpoint(), {.threads = 2});

  ASSERT_TRUE(weights.ok()) << weights.status().message();
  ASSERT_EQ(qkv.n, 32);
  EXPECT_EQ(weights->bytes, 32 * k * size_of(dtype()));
  EXPECT_TRUE(weights->arena.contains(qkv.data));
  for (int64_t row = 0; row < qkv.n; ++row) {
    const char* name = row < 21 ? "q.weight" : row < 26 ? "k.weight" : "v.weight";
    const int64_t source_row = row < 21 ? row : row < 26 ? row - 21 : row - 26;
    for (int64_t col = 0; col < k; ++col) {
      ASSERT_EQ(element(qkv, 0, row, col), rounded(dtype(), source.at(name, source_row, col, k)))
          << name << " row " << source_row << " col " << col;
    }
  }
}

TEST_P(WeightFormat, TakesRowsInTheOrderItIsTold) {
  // Two groups of [q q k v v v] rows become q q q q | k k | v v v v v v, as in a projection whose rows are
  // grouped by key head.
  const int64_t k = 10;
  RandomCheckpoint source(2);
  source.add<float>("grouped", {12, k});
  PackedWeight matrix;
  WeightPlan plan{.family = "toy"};
  plan.matrices.push_back(
      {.into = &matrix,
       .name = "qkv",
       .k = k,
       .dtype = dtype(),
       .layout = layout(),
       .parts = {
           {.name = "grouped", .rows = 12, .order = {{0, 2}, {6, 2}, {2, 1}, {8, 1}, {3, 3}, {9, 3}}}}});

  const auto weights = load_weights(plan, source.checkpoint(), {.threads = 2});

  ASSERT_TRUE(weights.ok()) << weights.status().message();
  const int64_t expected[] = {0, 1, 6, 7, 2, 8, 3, 4, 5, 9, 10, 11};
  ASSERT_EQ(matrix.n, 12);
  for (int64_t row = 0; row < 12; ++row) {
    for (int64_t col = 0; col < k; ++col) {
      ASSERT_EQ(element(matrix, 0, row, col), rounded(dtype(), source.at("grouped", expected[row], col, k)))
          << "row " << row;
    }
  }
}

// gate and up of 5 experts, [6, 9] each, in either form of the field.
MatrixTarget gate_up_target(PackedWeight* into, const Format& format) {
  return {.into = into,
          .name = "gate_up",
          .k = 9,
          .experts = 5,
          .dtype = format.dtype,
          .layout = format.layout,
          .parts = {{.name = "experts.{}.gate_proj.weight", .rows = 6},
                    {.name = "experts.{}.up_proj.weight", .rows = 6}},
          .otherwise = {{.name = "experts.gate_up_proj", .rows = 12}}};
}

TEST_P(WeightFormat, GathersOneTensorPerExpert) {
  RandomCheckpoint source(3);
  for (int expert = 0; expert < 5; ++expert) {
    source.add<BFloat16>("experts." + std::to_string(expert) + ".gate_proj.weight", {6, 9});
    source.add<BFloat16>("experts." + std::to_string(expert) + ".up_proj.weight", {6, 9});
  }
  PackedWeight matrix;
  WeightPlan plan{.family = "toy", .matrices = {gate_up_target(&matrix, GetParam())}};

  const auto weights = load_weights(plan, source.checkpoint(), {.threads = 2});

  ASSERT_TRUE(weights.ok()) << weights.status().message();
  ASSERT_EQ(matrix.experts, 5);
  ASSERT_EQ(matrix.expert_stride, packed_elements(dtype(), layout(), 12, 9));
  for (int64_t expert = 0; expert < 5; ++expert) {
    for (int64_t row = 0; row < 12; ++row) {
      const std::string name =
          "experts." + std::to_string(expert) + (row < 6 ? ".gate_proj.weight" : ".up_proj.weight");
      for (int64_t col = 0; col < 9; ++col) {
        ASSERT_EQ(element(matrix, expert, row, col), rounded(dtype(), source.at(name, row % 6, col, 9)))
            << name << " row " << row;
      }
    }
  }
}

TEST_P(WeightFormat, GathersAllExpertsFromOneTensor) {
  RandomCheckpoint source(4);
  source.add<float>("experts.gate_up_proj", {5, 12, 9});
  PackedWeight matrix;
  WeightPlan plan{.family = "toy", .matrices = {gate_up_target(&matrix, GetParam())}};

  const auto weights = load_weights(plan, source.checkpoint(), {.threads = 2});

  ASSERT_TRUE(weights.ok()) << weights.status().message();
  for (int64_t expert = 0; expert < 5; ++expert) {
    for (int64_t row = 0; row < 12; ++row) {
      for (int64_t col = 0; col < 9; ++col) {
        ASSERT_EQ(element(matrix, expert, row, col),
                  rounded(dtype(), source.at("experts.gate_up_proj", expert * 12 + row, col, 9)))
            << "expert " << expert << " row " << row;
      }
    }
  }
}

TEST_P(WeightFormat, GivesTheSameBytesWhateverTheThreads) {
  // Wide enough for several reads of staging and several jobs.
  const int64_t rows = 3000, k = 2049;
  RandomCheckpoint source(5);
  source.add<BFloat16>("a", {rows - 7, k});
  source.add<float>("b", {7, k});
  const Checkpoint checkpoint = source.checkpoint();
  std::vector<std::string> bytes;
  for (const int threads : {1, 2, 5}) {
    PackedWeight matrix;
    WeightPlan plan{.family = "toy"};
    plan.matrices.push_back({.into = &matrix,
                             .name = "m",
                             .k = k,
                             .dtype = dtype(),
                             .layout = layout(),
                             .parts = {{.name = "a", .rows = rows - 7}, {.name = "b", .rows = 7}}});

    const auto weights = load_weights(plan, checkpoint, {.threads = threads});

    ASSERT_TRUE(weights.ok()) << weights.status().message();
    const auto* data = static_cast<const char*>(matrix.data);
    bytes.emplace_back(data, data + matrix.expert_stride * size_of(dtype()));
    EXPECT_EQ(element(matrix, 0, rows - 8, k - 1), rounded(dtype(), source.at("a", rows - 8, k - 1, k)));
    EXPECT_EQ(element(matrix, 0, rows - 1, k - 1), rounded(dtype(), source.at("b", 6, k - 1, k)));
  }
  EXPECT_TRUE(bytes[0] == bytes[1] && bytes[0] == bytes[2]);
}

TEST(WeightLoader, RaisesDenseTensorsOfEveryFloatTypeToF32) {
  RandomCheckpoint source(6);
  source.add<float>("f32", {3});
  source.add<BFloat16>("bf16", {3});
  source.add<Float16>("f16", {3});
  source.add<double>("f64", {3});
  source.add<BFloat16>("conv", {5, 1, 4});
  TensorView f32, bf16, f16, f64, conv;
  WeightPlan plan{.family = "toy",
                  .tensors = {{.into = &f32, .name = "f32", .shape = {3}},
                              {.into = &bf16, .name = "bf16", .shape = {3}},
                              {.into = &f16, .name = "f16", .shape = {3}},
                              {.into = &f64, .name = "f64", .shape = {3}},
                              {.into = &conv, .name = "conv", .shape = {5, 4}, .stored = {5, 1, 4}}}};

  const auto weights = load_weights(plan, source.checkpoint(), {});

  ASSERT_TRUE(weights.ok()) << weights.status().message();
  for (const TensorTarget& target : plan.tensors) {
    ASSERT_EQ(target.into->shape, target.shape);
    for (int64_t i = 0; i < target.shape.elements(); ++i) {
      EXPECT_EQ(target.into->as<float>()[i], source.at(target.name, 0, i, 1 << 20)) << target.name;
    }
  }
}

TEST(WeightLoader, NeedsExactlyTheMemoryItAnnounces) {
  RandomCheckpoint source(7);
  source.add<float>("norm", {3});
  source.add<float>("w", {17, 3});
  TensorView norm;
  PackedWeight matrix;
  WeightPlan plan{.family = "toy"};
  plan.tensors.push_back({.into = &norm, .name = "norm", .shape = {3}, .part = "norms"});
  plan.matrices.push_back(
      {.into = &matrix, .name = "w", .k = 3, .parts = {{.name = "w", .rows = 17}}, .part = "attention"});
  plan.matrices.push_back(
      {.into = &matrix, .name = "w2", .k = 3, .parts = {{.name = "w", .rows = 17}}, .part = "attention"});

  const auto weights = load_weights(plan, source.checkpoint(), {});

  ASSERT_TRUE(weights.ok()) << weights.status().message();
  // bf16 panels: 32 rows of 4 columns of 2 bytes; 3 floats round up to a line.
  EXPECT_EQ(weights->arena.used(), 256 + 256 + 64);
  EXPECT_EQ(weight_footprint(plan).value(), weights->arena.used());
  const std::vector<WeightBytes> parts = weight_bytes_by_part(plan);
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_EQ(parts[0].part, "attention");
  EXPECT_EQ(parts[0].bytes, 512);
  EXPECT_EQ(parts[1].part, "norms");
  EXPECT_EQ(parts[1].bytes, 64);
  EXPECT_EQ(weight_bytes(plan)[1].name, "w2");
}

}  // namespace
}  // namespace lockstep
