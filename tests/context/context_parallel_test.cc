// Context parallelism of degree 2, 4 and 8 equals the run without it: batches of 1 to 8 sequences of uneven
// length, odd ones, ones with fewer rows than there are chunks, with and without a cached prefix, then
// decoding.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>

#include "context_ranks.h"
#include "model/model.h"

namespace lockstep::testing {
namespace {

// Rows of attention and of products do not depend on who else is in the step, so without recurrent layers all
// bits are the same. The delta rule runs in chunks of 64 rows counted from the first row that a rank has; who
// cuts elsewhere adds in another order. The bar is that of the golden values, for prompts that are cut in
// steps.
constexpr double kRelativeError = 1e-4;

struct Case {
  std::string name;
  std::string folder;
  bool sparse = false;  // its softmax layers choose their keys
};
std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

std::vector<Case> cases() {
  const std::string root = LOCKSTEP_SOURCE_DIR;
  return {{"qwen3", root + "/tests/golden/qwen3"},
          {"qwen3_moe", root + "/tests/golden/qwen3_moe"},
          {"qwen3_next", root + "/tests/golden/qwen3_next"},
          {"qwen3_sparse", root + "/tests/golden/qwen3", true},
          {"storyteller", root + "/models/storyteller"}};
}

class ContextParallel : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    auto model = load_model({.path = GetParam().folder, .dtype = ComputeDType::kFloat32, .threads = 2});
    ASSERT_TRUE(model.ok()) << model.status().message();
    model_ = std::move(model).value();
    // Prompts and sequences of 150 tokens and more choose: up to 4 blocks, of them 2 by score.
    if (GetParam().sparse) {
      model_->spec.softmax.sparse =
          SparseSpec{.init_blocks = 0, .top_blocks = 3, .window_blocks = 1, .dense_len = 150};
      model_->local.softmax.sparse = model_->spec.softmax.sparse;
    }
    recurrent_ = model_->spec.recurrent_layers() > 0;
  }

  // Uneven lengths, odd ones, some below the number of chunks.
  static constexpr int32_t kLengths[] = {37, 17, 1, 333, 64, 7, 2, 129};

  void fill(ContextRanks& ranks, size_t sequences, const SamplingFacts& sampling = {}) const {
    std::mt19937_64 random(sequences);
    for (size_t s = 0; s < sequences; ++s) {
      std::vector<TokenId> prompt;
      for (int32_t i = 0; i < kLengths[(s + sequences) % 8]; ++i)
        prompt.emplace_back(static_cast<int32_t>(random() % static_cast<uint64_t>(model_->spec.vocab)));
      ranks.add(std::move(prompt), sampling);
    }
  }

  // What is fed in which step: a part of each prompt, the rest while some decode already, then single rows.
  static std::vector<std::vector<int32_t>> steps(size_t sequences) {
    std::vector<int32_t> first, rest(sequences, 512), single(sequences, 1);
    for (size_t s = 0; s < sequences; ++s)
      first.push_back(s % 3 == 2 ? 512 : 1 + static_cast<int32_t>(s * 41));
    return {first, rest, single, single, single};
  }

  // Largest difference, relative to the largest logit.
  static double distance(const std::vector<float>& a, const std::vector<float>& b) {
    double worst = a.size() == b.size() ? 0 : HUGE_VAL, scale = 0;
    for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
      if (!std::isfinite(b[i])) return HUGE_VAL;
      worst = std::max(worst, std::abs(static_cast<double>(a[i]) - b[i]));
      scale = std::max(scale, std::abs(static_cast<double>(a[i])));
    }
    return scale > 0 ? worst / scale : worst;
  }

  // Runs both side by side; the largest relative error of a logit.
  double compare(ContextRanks& alone, ContextRanks& ranks, int32_t degree, size_t sequences) const {
    double worst = 0;
    int cut = 0;
    for (const std::vector<int32_t>& rows : steps(sequences)) {
      const Status one = alone.step(rows), all = ranks.step(rows);
      EXPECT_EQ(one.message(), "");
      EXPECT_EQ(all.message(), "");
      if (!one.ok() || !all.ok()) return HUGE_VAL;
      cut += ranks.shared() ? 1 : 0;
      const std::vector<float> expected = alone.logits(0);
      const std::vector<float> caches = ranks.caches(0);
      for (size_t rank = 0; rank < static_cast<size_t>(degree); ++rank) {
        EXPECT_EQ(ranks.result(rank).tokens, alone.result(0).tokens) << "rank " << rank;
        EXPECT_EQ(ranks.logits(rank), ranks.logits(0)) << "rank " << rank;
        EXPECT_EQ(ranks.caches(rank), caches) << "rank " << rank;
      }
      worst = std::max(worst, distance(expected, ranks.logits(0)));
      EXPECT_LE(distance(alone.caches(0), caches), recurrent_ ? kRelativeError : 0);
    }
    EXPECT_GE(cut, 1);
    return worst;
  }

  std::unique_ptr<Model> model_;
  bool recurrent_ = false;
};

TEST_P(ContextParallel, OfAnyDegreeAndBatchEqualsTheRunWithoutIt) {
  double worst = 0;
  for (const int32_t degree : {2, 4, 8}) {
    for (size_t sequences = 1; sequences <= 8; ++sequences) {
      SCOPED_TRACE(concat("degree ", degree, ", sequences ", sequences));
      ContextRanks alone(*model_, 1), ranks(*model_, degree);
      fill(alone, sequences);
      fill(ranks, sequences);
      const double error = compare(alone, ranks, degree, sequences);
      EXPECT_LE(error, recurrent_ ? kRelativeError : 0);
      worst = std::max(worst, error);
      if (HasFailure()) return;
    }
  }
  std::cout << GetParam() << ": largest relative error " << worst << "\n";
}

// Penalties count tokens that other ranks have run, too.
TEST_P(ContextParallel, CountsTheTokensOfAllRanksForPenalties) {
  const SamplingFacts penalties{
      .repetition_penalty = 1.7f, .presence_penalty = 0.5f, .frequency_penalty = 0.25f};
  for (const int32_t degree : {2, 4}) {
    SCOPED_TRACE(concat("degree ", degree));
    ContextRanks alone(*model_, 1), ranks(*model_, degree);
    fill(alone, 5, penalties);
    fill(ranks, 5, penalties);
    EXPECT_LE(compare(alone, ranks, degree, 5), recurrent_ ? kRelativeError : 0);
  }
}

// Every launch watched, inputs poisoned where nobody owns them.
TEST_P(ContextParallel, LeavesNothingToBeSeenAtTheLevelFull) {
  ContextRanks alone(*model_, 1), ranks(*model_, 2, GuardLevel::kFull);
  fill(alone, 3);
  fill(ranks, 3);
  EXPECT_LE(compare(alone, ranks, 2, 3), recurrent_ ? kRelativeError : 0);
}

TEST_P(ContextParallel, NamesThePlanOfAnotherRankBeforeAnythingIsLaunched) {
  ContextRanks ranks(*model_, 2);
  fill(ranks, 2);
  ASSERT_EQ(ranks.step({20, 20}).message(), "");
  const Status status = ranks.run_as(0, 1);
  ASSERT_NE(status.fault(), nullptr) << status.message();
  EXPECT_EQ(status.fault()->check, "L2");
  EXPECT_EQ(status.fault()->field, "cp_rank");
  EXPECT_EQ(status.fault()->expected, "0, the rank that runs the plan");
  EXPECT_EQ(status.fault()->found, "1");
}

INSTANTIATE_TEST_SUITE_P(Models, ContextParallel, ::testing::ValuesIn(cases()),
                         [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace lockstep::testing
