#include <gtest/gtest.h>

#include <chrono>

#include "weights/test_support.h"
#include "weights/weight_loader.h"

namespace lockstep {
namespace {

// A checkpoint of [4, 8] "w", and what loading another idea of it says.
class WeightRefusal : public testing::Test {
 protected:
  WeightRefusal() : source_(8) {
    source_.add<float>("w", {4, 8});
    source_.add<float>("mtp.w", {1});
    plan_ = {.family = "toy"};
    plan_.matrices.push_back({.into = &matrix_, .name = "m", .k = 8, .parts = {{.name = "w", .rows = 4}}});
    plan_.may_ignore = [](std::string_view name) { return name.starts_with("mtp."); };
  }
  MatrixTarget& target() { return plan_.matrices[0]; }
  std::string message() {
    const auto weights = load_weights(plan_, source_.checkpoint(), {});
    return weights.ok() ? "(accepted)" : weights.status().message();
  }
  std::string path() const { return source_.folder().file("model.safetensors"); }

  RandomCheckpoint source_;
  PackedWeight matrix_;
  TensorView tensor_;
  WeightPlan plan_;
};

TEST_F(WeightRefusal, LetsPassWhatTheFamilyIgnores) {
  const auto weights = load_weights(plan_, source_.checkpoint(), {});

  ASSERT_TRUE(weights.ok()) << weights.status().message();
  EXPECT_EQ(weights->ignored_tensors, 1);
}

TEST_F(WeightRefusal, NamesATensorThatIsMissing) {
  target().parts[0].name = "v";

  EXPECT_EQ(message(),
            "toy: " + path() +
                " has no tensor v; expected it with shape [4, 8]; check that config.json belongs to "
                "these weights");
}

TEST_F(WeightRefusal, NamesTheExpertThatIsMissing) {
  source_.add<float>("experts.0", {4, 8});
  source_.add<float>("experts.1", {4, 8});
  target().experts = 3;
  target().parts[0].name = "experts.{}";

  EXPECT_EQ(message(), "toy: " + path() +
                           " has no tensor experts.2; expected it with shape [4, 8]; check that config.json "
                           "belongs to these weights");
}

TEST_F(WeightRefusal, NamesBothShapesThatDiffer) {
  target().parts[0].rows = 5;
  EXPECT_EQ(message(),
            "toy: w has shape [4, 8]; expected [5, 8]; check that config.json belongs to these weights");

  target().parts[0].rows = 4;
  target().experts = 2;
  EXPECT_EQ(message(),
            "toy: w has shape [4, 8]; expected [2, 4, 8]; check that config.json belongs to these weights");

  plan_.matrices.clear();
  plan_.tensors.push_back({.into = &tensor_, .name = "w", .shape = {32}, .stored = {32, 1}});
  EXPECT_EQ(message(),
            "toy: w has shape [4, 8]; expected [32, 1]; check that config.json belongs to these weights");
}

TEST_F(WeightRefusal, NamesATypeThatIsNoFloat) {
  source_.add<uint8_t>("q", {4, 8});
  plan_.matrices.push_back({.into = &matrix_, .name = "q", .k = 8, .parts = {{.name = "q", .rows = 4}}});

  EXPECT_EQ(message(), "toy: q is u8; expected f32, f16 or bf16; use an unquantised checkpoint");
}

TEST_F(WeightRefusal, CountsTensorsThatNobodyReads) {
  source_.add<BFloat16>("a.bias", {4});
  EXPECT_EQ(message(), "toy: " + path() +
                           " holds 1 tensor that this family does not read, first a.bias [4] bf16; expected "
                           "none; check model_type in config.json");

  plan_.may_ignore = nullptr;
  EXPECT_EQ(message(), "toy: " + path() +
                           " holds 2 tensors that this family does not read, first a.bias [4] bf16; expected "
                           "none; check model_type in config.json");
}

TEST_F(WeightRefusal, RefusesPlansThatContradictThemselves) {
  target().parts[0].order = {{0, 2}, {3, 2}};
  EXPECT_EQ(message(), "weights: m takes rows 3 to 5 of w; expected rows within 0 to 4");

  target().parts[0].order = {};
  target().otherwise = {{.name = "w", .rows = 3}};
  EXPECT_EQ(message(), "weights: m has 4 rows in one form and 3 in the other; expected the same");

  target().otherwise = {};
  target().k = 0;
  EXPECT_EQ(message(), "weights: w has shape [4, 0]; expected at least 1 in each dimension");

  target().k = int64_t{1} << 62;
  EXPECT_EQ(message(), "weights: w has shape [4, 4611686018427387904]; expected less than 2^62 bytes");

  target().k = 8;
  target().dtype = DType::kI8;
  EXPECT_EQ(message(), "weights: m is to be i8; expected f32, f16 or bf16");

  target().dtype = DType::kBF16;
  target().parts.clear();
  EXPECT_EQ(message(), "weights: m has shape [1, 0, 8]; expected at least 1 in each dimension");

  plan_.matrices.clear();
  plan_.tensors.push_back({.into = &tensor_, .name = "w", .shape = {31}, .stored = {4, 8}});
  EXPECT_EQ(message(),
            "weights: w is [4, 8] on disk and [31] in memory; expected the same number of elements");
}

TEST_F(WeightRefusal, ReportsAFileThatShrinksWhileItsWeightsAreRead) {
  source_.add<float>("big", {3000, 800});
  plan_.matrices.push_back(
      {.into = &matrix_, .name = "big", .k = 800, .parts = {{.name = "big", .rows = 3000}}});
  const Checkpoint checkpoint = source_.checkpoint();
  const auto size = std::filesystem::file_size(path());
  std::filesystem::resize_file(path(), size / 2);

  const auto weights = load_weights(plan_, checkpoint, {.threads = 2});

  EXPECT_EQ(weights.status().message(),
            concat(path(), ": shrank to ", size / 2, " bytes while being read; expected ", size,
                   "; let its writer finish and load again"));
}

TEST_F(WeightRefusal, RefusesAFileThatWasRewrittenSinceItWasOpened) {
  const Checkpoint checkpoint = source_.checkpoint();
  const auto written = std::filesystem::last_write_time(path());
  std::filesystem::last_write_time(path(), written - std::chrono::hours(1));  // time moves, the size stays

  const auto weights = load_weights(plan_, checkpoint, {});

  EXPECT_EQ(weights.status().message(),
            path() +
                ": was changed while being read; expected it to stay as it was when "
                "it was opened; let its writer finish and load again");
}

}  // namespace
}  // namespace lockstep
