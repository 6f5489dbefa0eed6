// Every meaningful layout of ranks gives the tokens of one rank alone.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "../support/engines.h"
#include "../support/golden_file.h"
#include "model/shard.h"
#include "rank_engines.h"

namespace lockstep::testing {
namespace {

constexpr uint64_t kSeed = 20261121;
constexpr int32_t kMostRanks = 8;

EngineConfig config_of(const std::string& folder) {
  EngineConfig config = small_config(folder);
  config.max_num_batched_tokens = 64;
  config.chunk_size = 16;
  config.max_num_seqs = 8;
  config.graph_sizes = {1, 2, 4};
  return config;
}

// Prompts of FR2's two replicas, turn by turn, then some that take one row, several chunks, and pages that
// end within a chunk; and a greedy continuation of each.
std::vector<Request> requests_of(int32_t vocab) {
  std::mt19937_64 random(kSeed);
  std::vector<Request> requests;
  for (const int32_t length : {5, 7, 5, 5, 8, 11, 8, 7, 1, 43, 17}) {
    Request request{.max_tokens = 6, .temperature = 0, .logprobs = 2, .ignore_eos = true};
    for (int32_t t = 0; t < length; ++t)
      request.prompt_ids.push_back(static_cast<int32_t>(random() % static_cast<uint64_t>(vocab)));
    requests.push_back(std::move(request));
  }
  return requests;
}

// All shapes of several ranks that a model can be cut into.
std::vector<MeshShape> shapes_for(const DecoderSpec& spec) {
  std::vector<MeshShape> shapes;
  for (int32_t tp = 1; tp <= kMostRanks; ++tp) {
    for (int32_t dp = 1; tp * dp <= kMostRanks; ++dp) {
      for (int32_t cp = tp * dp == 1 ? 2 : 1; tp * dp * cp <= kMostRanks; ++cp) {
        for (const bool experts : {false, true}) {
          const MeshShape shape{.tp = tp, .dp = dp, .cp = cp, .expert_parallel = experts};
          if (experts && tp * dp == 1) continue;  // as without
          if (shard(spec, shard_of(shape, {})).ok()) shapes.push_back(shape);
        }
      }
    }
  }
  return shapes;
}

// Of the storyteller, where not all are run.
const std::vector<MeshShape> kFew = {{.tp = 2},
                                     {.dp = 2},
                                     {.cp = 2},
                                     {.tp = 2, .dp = 2},
                                     {.tp = 2, .dp = 2, .expert_parallel = true},
                                     {.tp = 2, .dp = 2, .cp = 2, .expert_parallel = true}};

struct Case {
  std::string name;
  std::string folder;
  size_t layouts = 0;  // of up to eight ranks
  bool always = true;  // else in the long run only
};

std::ostream& operator<<(std::ostream& out, const Case& each) { return out << each.name; }

class Layouts : public ::testing::TestWithParam<Case> {};

TEST_P(Layouts, GiveTheTokensOfOneRankAlone) {
  const Case& each = GetParam();
  const Result<std::unique_ptr<Model>> model =
      load_model({.path = each.folder, .dtype = ComputeDType::kFloat32});
  ASSERT_TRUE(model.ok()) << model.status().message();
  std::vector<MeshShape> shapes = shapes_for((*model)->spec);
  EXPECT_EQ(shapes.size(), each.layouts);
  if (!each.always && std::getenv("LOCKSTEP_LONG") == nullptr) shapes = kFew;
  RankedWorkload workload{.shape = {}, .config = config_of(each.folder), .requests = requests_of(256)};
  const RankedOutcome alone = run_ranked(workload);
  ASSERT_EQ(alone.errors, std::vector<std::string>());
  for (const MeshShape& shape : shapes) {
    SCOPED_TRACE(describe(shape));
    workload.shape = shape;
    expect_same(alone, workload);
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, Layouts,
                         ::testing::Values(Case{"dense", golden_folder("qwen3"), 27},
                                           Case{"experts", golden_folder("qwen3_moe"), 48},
                                           Case{"hybrid", golden_folder("qwen3_next"), 29},
                                           Case{"storyteller", LOCKSTEP_SOURCE_DIR "/models/storyteller", 41,
                                                false}),
                         [](const auto& param) { return param.param.name; });

}  // namespace
}  // namespace lockstep::testing
