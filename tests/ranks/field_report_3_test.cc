// The third field report's set-up through whole engines: ranks share the rows of prompts, of one sequence up
// to eight, whose lengths are odd, uneven or below the number of chunks, in prompt chunks of several sizes,
// so that later ones stand behind a cached prefix; some sequences decode meanwhile.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "../support/engines.h"
#include "../support/golden_file.h"
#include "rank_engines.h"

namespace lockstep::testing {
namespace {

constexpr uint64_t kSeed = 20261123;

struct Case {
  std::string name;
  std::string model;
  int32_t ranks = 0;
};

std::ostream& operator<<(std::ostream& out, const Case& each) { return out << each.name; }

RankedWorkload workload_of(const Case& each, int32_t sequences, std::mt19937_64& random) {
  RankedWorkload workload{.shape = {}, .config = small_config(each.model), .requests = {}, .arrivals = {}};
  workload.config.max_num_seqs = 8;
  workload.config.max_num_batched_tokens = 256;
  workload.config.chunk_size = std::vector<int32_t>{7, 32, 256}[random() % 3];
  workload.config.graph_sizes = {1, 4, 8};
  const std::vector<int32_t> lengths = {
      1, 2, 3, each.ranks, 2 * each.ranks - 1, 2 * each.ranks, 2 * each.ranks + 1, 29, 64, 97, 131};
  for (int32_t s = 0; s < sequences; ++s) {
    Request request{.max_tokens = 4, .temperature = 0, .logprobs = 2, .ignore_eos = true};
    const int32_t length = lengths[random() % lengths.size()];
    for (int32_t t = 0; t < length; ++t) request.prompt_ids.push_back(static_cast<int32_t>(random() % 256));
    workload.requests.push_back(std::move(request));
    workload.arrivals.push_back(static_cast<int64_t>(random() % 4));
  }
  return workload;
}

class FieldReport3 : public ::testing::TestWithParam<Case> {};

TEST_P(FieldReport3, GivesTheTokensOfOneRankAlone) {
  const bool long_run = std::getenv("LOCKSTEP_LONG") != nullptr;
  std::mt19937_64 random(kSeed);
  for (int32_t sequences = 1; sequences <= 8; sequences += long_run ? 1 : 7) {
    SCOPED_TRACE(sequences);
    RankedWorkload workload = workload_of(GetParam(), sequences, random);
    const RankedOutcome alone = run_ranked(workload);
    ASSERT_EQ(alone.errors, std::vector<std::string>());
    workload.shape = {.cp = GetParam().ranks};
    expect_same(alone, workload);
  }
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const char* model : {"qwen3", "qwen3_moe", "qwen3_next"}) {
    for (const int32_t ranks : {2, 4, 8})
      all.push_back({concat(model, "_", ranks), golden_folder(model), ranks});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Ranks, FieldReport3, ::testing::ValuesIn(cases()),
                         [](const auto& param) { return param.param.name; });

}  // namespace
}  // namespace lockstep::testing
