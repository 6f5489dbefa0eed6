// Every meaningful layout of ranks gives the tokens of one rank alone.
#include <gtest/gtest.h>

#include <iostream>
#include <random>

#include "../support/engines.h"
#include "../support/golden_file.h"
#include "rank_engines.h"

namespace lockstep::testing {
namespace {

constexpr uint64_t kSeed = 20261121;

EngineConfig config_of(const std::string& folder) {
  EngineConfig config = small_config(folder);
  config.max_num_batched_tokens = 64;
  config.chunk_size = 16;
  config.max_num_seqs = 8;
  config.graph_sizes = {1, 2, 4};
  return config;
}

// Prompts of FR2's two replicas, turn by turn, and a greedy continuation of each.
std::vector<Request> field_report_requests(int32_t vocab, int32_t tokens) {
  std::mt19937_64 random(kSeed);
  std::vector<Request> requests;
  for (const int32_t length : {5, 7, 5, 5, 8, 11, 8, 7}) {
    Request request{.max_tokens = tokens, .temperature = 0, .logprobs = 2, .ignore_eos = true};
    for (int32_t t = 0; t < length; ++t)
      request.prompt_ids.push_back(static_cast<int32_t>(random() % static_cast<uint64_t>(vocab)));
    requests.push_back(std::move(request));
  }
  return requests;
}

struct Case {
  std::string model;
  MeshShape shape;
};
std::ostream& operator<<(std::ostream& out, const Case& each) {
  return out << each.model << ", " << describe(each.shape);
}

void expect_same(const RankedWorkload& workload, const RankedOutcome& alone) {
  const RankedOutcome ranked = run_ranked(workload);
  ASSERT_EQ(ranked.errors, std::vector<std::string>());
  const Comparison comparison = compare(alone, ranked);
  EXPECT_EQ(comparison.differences, std::vector<std::string>());
  EXPECT_GT(comparison.tokens, 0);
  EXPECT_GT(ranked.replays, 0);
  std::cout << describe(workload.shape) << ": " << comparison.tokens << " tokens the same, "
            << comparison.near_ties << " near ties, log probabilities within " << comparison.largest << "\n";
}

class Layouts : public ::testing::TestWithParam<Case> {};

TEST_P(Layouts, GiveTheTokensOfOneRankAlone) {
  RankedWorkload workload{.shape = {}, .config = config_of(GetParam().model), .requests = {}};
  workload.requests = field_report_requests(256, 12);
  const RankedOutcome alone = run_ranked(workload);
  ASSERT_EQ(alone.errors, std::vector<std::string>());
  workload.shape = GetParam().shape;
  expect_same(workload, alone);
}

std::vector<Case> cases() {
  const std::vector<MeshShape> plain = {{.tp = 2}, {.dp = 2}, {.tp = 2, .dp = 2}};
  const std::vector<MeshShape> experts = {{.tp = 2, .expert_parallel = true},
                                          {.dp = 2, .expert_parallel = true},
                                          {.tp = 2, .dp = 2, .expert_parallel = true}};
  std::vector<Case> all;
  const auto add = [&](const std::string& model, const std::vector<MeshShape>& shapes) {
    for (const MeshShape& shape : shapes) all.push_back({model, shape});
  };
  add(golden_folder("qwen3"), plain);
  add(golden_folder("qwen3_moe"), plain);
  add(golden_folder("qwen3_moe"), experts);
  add(golden_folder("qwen3_next"), plain);
  add(golden_folder("qwen3_next"), {{.dp = 3, .expert_parallel = true}});  // it has nine experts
  const std::string storyteller = std::string(LOCKSTEP_SOURCE_DIR) + "/models/storyteller";
  add(storyteller, plain);
  add(storyteller, experts);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Ranks, Layouts, ::testing::ValuesIn(cases()));

}  // namespace
}  // namespace lockstep::testing
