// The identity rule: the same request gives the same tokens whatever shares its batch, chunk, page or pool.
// Bit identity where the order of arithmetic is the same by construction, token identity elsewhere, where a
// first difference is allowed only at a near tie, which is printed and counted.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <random>

#include "../support/engines.h"
#include "../support/golden_file.h"
#include "kernels/kv_cache/kv_layout.h"

namespace lockstep::testing {
namespace {

constexpr uint64_t kSeed = 20240711;

// What one model is asked: 64 prompts of mixed length, a few greedy tokens each.
struct Workload {
  std::string name;
  std::string folder;
  int32_t longest_prompt = 0;
  int32_t tokens = 0;

  std::vector<std::vector<int32_t>> prompts(int32_t vocab) const {
    std::mt19937_64 random(kSeed);
    std::vector<std::vector<int32_t>> prompts(64);
    for (size_t i = 0; i < prompts.size(); ++i) {
      const size_t length = i == 0 ? 1 : 1 + random() % static_cast<uint64_t>(longest_prompt);
      for (size_t t = 0; t < length; ++t)
        prompts[i].push_back(static_cast<int32_t>(random() % static_cast<uint64_t>(vocab)));
    }
    return prompts;
  }
};

std::ostream& operator<<(std::ostream& out, const Workload& workload) { return out << workload.name; }

std::vector<Workload> workloads() {
  std::vector<Workload> all = {
      {.name = "qwen3", .folder = golden_folder("qwen3"), .longest_prompt = 150, .tokens = 4},
      {.name = "qwen3_moe", .folder = golden_folder("qwen3_moe"), .longest_prompt = 150, .tokens = 4},
      {.name = "qwen3_next", .folder = golden_folder("qwen3_next"), .longest_prompt = 150, .tokens = 4},
      {.name = "storyteller",
       .folder = std::string(LOCKSTEP_SOURCE_DIR) + "/models/storyteller",
       .longest_prompt = 200,
       .tokens = 8}};
  // Half a minute for what the others share with it: all but a norm over all heads and a sigmoid router.
  if (std::getenv("LOCKSTEP_LONG") != nullptr) {
    all.push_back(
        {.name = "minimax_m2", .folder = golden_folder("minimax_m2"), .longest_prompt = 80, .tokens = 3});
  }
  return all;
}

// What each prompt brought, in the order of the prompts whatever order they were added in.
struct Results {
  std::vector<std::vector<int32_t>> tokens;
  std::vector<std::vector<std::vector<float>>> logits;
  int64_t preemptions = 0;
};

class Identity : public ::testing::TestWithParam<Workload> {
 protected:
  EngineConfig config() const {
    EngineConfig config = small_config(GetParam().folder);
    config.max_num_batched_tokens = 4096;
    config.chunk_size = 4096;
    config.max_model_len = 512;
    return config;
  }

  std::unique_ptr<Engine> engine(const EngineConfig& config) {
    std::unique_ptr<Engine> engine = make_engine(config);
    if (engine != nullptr) prompts_ = GetParam().prompts(engine->model().spec.vocab);
    return engine;
  }

  // All prompts at once, added in `order`.
  Results together(Engine& engine, const std::vector<size_t>& order, int32_t tokens) const {
    std::vector<uint64_t> ids(order.size());
    for (const size_t i : order) ids[i] = *engine.add(greedy(prompts_[i], tokens));
    Outcome run = run_to_end(engine);
    Results results;
    for (const uint64_t id : ids) {
      results.tokens.push_back(run.tokens[id]);
      results.logits.push_back(run.logits[id]);
    }
    results.preemptions = engine.stats().preemptions;
    return results;
  }
  Results together(Engine& engine) const { return together(engine, in_order(), GetParam().tokens); }

  // One prompt after the other.
  Results alone(Engine& engine) const {
    Results results;
    for (const std::vector<int32_t>& prompt : prompts_) {
      const uint64_t id = *engine.add(greedy(prompt, GetParam().tokens));
      Outcome run = run_to_end(engine);
      results.tokens.push_back(run.tokens[id]);
      results.logits.push_back(run.logits[id]);
    }
    return results;
  }

  std::vector<size_t> in_order() const {
    std::vector<size_t> order(prompts_.size());
    std::iota(order.begin(), order.end(), size_t{0});
    return order;
  }

  std::vector<std::vector<int32_t>> prompts_;
};

void expect_same_bits(const Results& reference, const Results& other, const std::string& how) {
  ASSERT_EQ(reference.logits.size(), other.logits.size());
  for (size_t i = 0; i < reference.logits.size(); ++i) {
    ASSERT_EQ(reference.tokens[i], other.tokens[i]) << how << ", prompt " << i;
    for (size_t t = 0; t < reference.logits[i].size(); ++t) {
      const std::vector<float>&a = reference.logits[i][t], &b = other.logits[i][t];
      const auto different = std::mismatch(a.begin(), a.end(), b.begin());
      ASSERT_TRUE(different.first == a.end())
          << how << ", prompt " << i << ", token " << t << ": logit " << different.first - a.begin() << " is "
          << *different.second << ", alone " << *different.first;
    }
  }
}

float top2_gap(std::vector<float> logits) {
  std::nth_element(logits.begin(), logits.begin() + 1, logits.end(), std::greater<>());
  return logits[0] - logits[1];
}

float largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  float worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  return worst;
}

// Token identity. Returns how many prompts parted at a near tie.
int32_t expect_same_tokens(const Results& reference, const Results& other, const std::string& how) {
  int32_t ties = 0;
  for (size_t i = 0; i < reference.tokens.size(); ++i) {
    EXPECT_EQ(reference.tokens[i].size(), other.tokens[i].size()) << how << ", prompt " << i;
    const auto parted =
        std::mismatch(reference.tokens[i].begin(), reference.tokens[i].end(), other.tokens[i].begin());
    if (parted.first == reference.tokens[i].end()) continue;
    const auto t = static_cast<size_t>(parted.first - reference.tokens[i].begin());
    const float gap = top2_gap(reference.logits[i][t]);
    const float bound = 4 * largest_difference(reference.logits[i][t], other.logits[i][t]);
    EXPECT_LT(gap, bound) << how << ", prompt " << i << ", token " << t;
    std::cout << how << ": prompt " << i << " parts at token " << t << ", gap " << gap << " < " << bound
              << "\n";
    ++ties;
  }
  return ties;
}

TEST_P(Identity, LogitsAreTheSameBitsAloneTogetherAndInAnyOrder) {
  const auto one = engine(config());
  ASSERT_NE(one, nullptr);
  const Results reference = alone(*one);
  expect_same_bits(reference, together(*one), "together");
  std::mt19937_64 random(kSeed);
  for (int round = 0; round < 3; ++round) {
    std::vector<size_t> order = in_order();
    std::shuffle(order.begin(), order.end(), random);
    expect_same_bits(reference, together(*one, order, GetParam().tokens), "shuffled");
  }
}

TEST_P(Identity, LogitsAreTheSameBitsForEveryLayoutAndPageSize) {
  const auto first = engine(config());
  ASSERT_NE(first, nullptr);
  const Results reference = together(*first);
  for (const KvLayout& layout : all_kv_layouts()) {
    for (const int32_t page_size : {16, 64, 128}) {
      EngineConfig changed = config();
      changed.kv_layout = id_of(layout);
      changed.page_size = page_size;
      changed.num_pages = std::max(64, 64 * 512 / page_size);
      const auto other = engine(changed);
      ASSERT_NE(other, nullptr);
      expect_same_bits(reference, together(*other), concat(layout, ", pages of ", page_size));
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(Identity, LogitsAreTheSameBitsWhenDecodeStepsArePadded) {
  const auto first = engine(config());
  ASSERT_NE(first, nullptr);
  const Results reference = together(*first);
  EngineConfig padded = config();
  padded.graph_sizes = {5, 48, 80};  // 64 sequences decode in 80 rows: 16 pad sequences
  const auto other = engine(padded);
  ASSERT_NE(other, nullptr);
  expect_same_bits(reference, together(*other), "padded");
}

// Whatever is checked while serving, and however late the device does its work.
TEST_P(Identity, LogitsAreTheSameBitsWithAndWithoutGraphsAtEveryLevelAndPace) {
  EngineConfig eager = config();
  eager.enforce_eager = true;
  const auto first = engine(eager);
  ASSERT_NE(first, nullptr);
  const Results reference = together(*first);
  EXPECT_EQ(first->executor().runner().replays(), 0);
  for (const GuardLevel level : {GuardLevel::kPlan, GuardLevel::kReplay}) {
    for (const Pace pace : {Pace::kAtOnce, Pace::kLate}) {
      EngineConfig changed = config();
      changed.guard = level;
      changed.pace = pace;
      const auto other = engine(changed);
      ASSERT_NE(other, nullptr);
      for (const GraphOutcome& graph : other->graphs())
        EXPECT_TRUE(graph.status.ok()) << graph.status.message();
      const int64_t proofs = other->executor().runner().replays();
      expect_same_bits(reference, together(*other), concat("graphs at level ", name_of(level)));
      EXPECT_GT(other->executor().runner().replays(), proofs);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(Identity, LogitsAreTheSameBitsForAnyNumberOfThreads) {
  const auto first = engine(config());
  ASSERT_NE(first, nullptr);
  const Results reference = together(*first);
  for (const int32_t threads : {1, 3}) {
    EngineConfig changed = config();
    changed.threads = threads;
    const auto other = engine(changed);
    ASSERT_NE(other, nullptr);
    expect_same_bits(reference, together(*other), concat(threads, " threads"));
  }
}

TEST_P(Identity, TokensAreTheSameForEveryChunkSize) {
  const auto whole = engine(config());
  ASSERT_NE(whole, nullptr);
  const Results reference = together(*whole);
  int32_t ties = 0;
  for (const int32_t chunk : {1, 7, 64, 512}) {
    EngineConfig changed = config();
    changed.chunk_size = chunk;
    const auto other = engine(changed);
    ASSERT_NE(other, nullptr);
    ties += expect_same_tokens(reference, together(*other), concat("chunks of ", chunk));
  }
  std::cout << GetParam() << ": " << ties << " near ties in 4 x 64 prompts\n";
}

TEST_P(Identity, TokensAreTheSameWhenPoolsRunOut) {
  constexpr int32_t kTokens = 128;  // 32 small pages of growth per sequence: enough to take pages from others
  const auto roomy = engine(config());
  ASSERT_NE(roomy, nullptr);
  const Results reference = together(*roomy, in_order(), kTokens);
  EngineConfig tight = config();
  tight.page_size = 4;
  tight.num_pages = 400;
  const auto other = engine(tight);
  ASSERT_NE(other, nullptr);
  const Results results = together(*other, in_order(), kTokens);
  EXPECT_GE(results.preemptions, 50);
  const int32_t ties = expect_same_tokens(reference, results, "preempted");
  std::cout << GetParam() << ": " << results.preemptions << " preemptions, " << ties << " near ties\n";
}

INSTANTIATE_TEST_SUITE_P(Models, Identity, ::testing::ValuesIn(workloads()),
                         [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace lockstep::testing
