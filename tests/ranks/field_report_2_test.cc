// The second field report's set-up: four ranks, tensor parallel over two, two replicas whose experts are
// shared by all; eight prompts, four for each replica.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "../support/engines.h"
#include "rank_engines.h"

namespace lockstep::testing {
namespace {

constexpr uint64_t kSeed = 20261122;
constexpr MeshShape kFieldReport{.tp = 2, .dp = 2, .expert_parallel = true};

EngineConfig storyteller() {
  EngineConfig config = small_config(std::string(LOCKSTEP_SOURCE_DIR) + "/models/storyteller");
  config.max_num_batched_tokens = 64;
  config.chunk_size = 16;
  config.max_num_seqs = 8;
  config.graph_sizes = {1, 2, 4, 8};
  return config;
}

// Another hybrid of experts, with heads of other numbers and sizes, made up.
EngineConfig made_up() {
  EngineConfig config = storyteller();
  config.model.path = "tiny-next-2048";
  config.model.format = LoadFormat::kDummy;
  config.max_model_len = 128;
  config.graph_sizes = {2, 4};
  return config;
}

Request request_of(std::mt19937_64& random, int32_t length, int32_t tokens) {
  Request request{.max_tokens = tokens, .temperature = 0, .logprobs = 2, .ignore_eos = true};
  for (int32_t t = 0; t < length; ++t) request.prompt_ids.push_back(static_cast<int32_t>(random() % 1000));
  return request;
}

// Lengths of both replicas, turn by turn.
std::vector<Request> prompts(std::initializer_list<int32_t> lengths, int32_t tokens) {
  std::mt19937_64 random(kSeed);
  std::vector<Request> requests;
  for (const int32_t length : lengths) requests.push_back(request_of(random, length, tokens));
  return requests;
}

void expect_as_alone(RankedWorkload workload) {
  workload.shape = {};
  const RankedOutcome alone = run_ranked(workload);
  ASSERT_EQ(alone.errors, std::vector<std::string>());
  workload.shape = kFieldReport;
  expect_same(alone, workload);
}

TEST(FieldReport2, GivesTheTokensOfOneRankAloneOnTheStoryteller) {
  expect_as_alone({.shape = {},
                   .config = storyteller(),
                   .requests = prompts({5, 7, 5, 5, 8, 11, 8, 7}, 24),
                   .arrivals = {}});
}

TEST(FieldReport2, GivesTheTokensOfOneRankAloneOnAnotherShape) {
  expect_as_alone(
      {.shape = {}, .config = made_up(), .requests = prompts({5, 7, 5, 5, 8, 11, 8, 7}, 6), .arrivals = {}});
}

// All that the second replica gets arrives when the first one is done, and the other way round.
TEST(FieldReport2, RunsOnWithAReplicaThatHasNothingToDo) {
  expect_as_alone({.shape = {},
                   .config = storyteller(),
                   .requests = prompts({9, 4, 30, 17}, 10),
                   .arrivals = {0, 40, 5, 40}});
}

TEST(FieldReport2, RunsOnWhileRequestsComeAndGo) {
  const bool long_run = std::getenv("LOCKSTEP_LONG") != nullptr;
  std::mt19937_64 random(kSeed);
  RankedWorkload workload{.shape = {}, .config = storyteller(), .requests = {}, .arrivals = {}};
  for (int64_t step = 0; step < (long_run ? 2000 : 200); step += static_cast<int64_t>(random() % 12)) {
    workload.requests.push_back(
        request_of(random, 1 + static_cast<int32_t>(random() % 40), 1 + static_cast<int32_t>(random() % 30)));
    workload.arrivals.push_back(step);
  }
  expect_as_alone(std::move(workload));
}

}  // namespace
}  // namespace lockstep::testing
