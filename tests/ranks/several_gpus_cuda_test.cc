// Engines of two ranks, each on a GPU of its own, that share the rows of prompts through NCCL: they give the
// tokens of one GPU alone. Ranks that exchange in every step are processes, as tests/cli/generate_ranks.py,
// tests/dist/disagreements.py and generate_drills.py start them with --gpus: within one process, memory that
// a thread takes waits for the kernels of all GPUs, and a kernel that exchanges waits for the other thread.
#include <gtest/gtest.h>

#include <random>

#include "../support/engines.h"
#include "../support/golden_file.h"
#include "device/registry.h"
#include "rank_engines.h"

namespace lockstep::testing {
namespace {

constexpr uint64_t kSeed = 20261125;
constexpr MeshShape kContext{.cp = 2};

std::string gpu(int32_t rank) { return concat("cuda:", rank); }

class SeveralGpus : public ::testing::Test {
 protected:
  void SetUp() override {
    const Result<DevicePtr> second = open_device(gpu(1));
    if (!second.ok()) GTEST_SKIP() << second.status().message();
  }
};

RankedWorkload workload_of(const std::string& model) {
  RankedWorkload workload{.shape = {}, .config = small_config(model), .requests = {}};
  workload.config.max_num_batched_tokens = 64;
  workload.config.chunk_size = 16;
  workload.config.max_num_seqs = 8;
  workload.config.graph_sizes = {1, 2, 4, 8};
  workload.of_rank = [](int32_t rank, EngineConfig& config) { config.device = gpu(rank); };
  std::mt19937_64 random(kSeed);
  for (const int32_t length : {5, 7, 5, 5, 8, 11, 8, 7, 1, 43, 17}) {
    Request request{.max_tokens = 16, .temperature = 0, .logprobs = 2, .ignore_eos = true};
    for (int32_t t = 0; t < length; ++t) request.prompt_ids.push_back(static_cast<int32_t>(random() % 128));
    workload.requests.push_back(std::move(request));
  }
  return workload;
}

struct Case {
  std::string name;
  std::string model;
  std::vector<MeshShape> shapes;
};
std::ostream& operator<<(std::ostream& out, const Case& each) { return out << each.name; }

class LayoutsOfGpus : public SeveralGpus, public ::testing::WithParamInterface<Case> {};

TEST_P(LayoutsOfGpus, GiveTheTokensOfOneGpuAloneAndOfTheCpu) {
  RankedWorkload workload = workload_of(GetParam().model);
  const RankedOutcome alone = run_ranked(workload);
  ASSERT_EQ(alone.errors, std::vector<std::string>());
  for (const MeshShape& shape : GetParam().shapes) {
    SCOPED_TRACE(describe(shape));
    workload.shape = shape;
    expect_same(alone, workload);
  }
  workload.of_rank = nullptr;
  workload.config.device = "cpu";
  workload.shape = {};
  const Comparison comparison = compare(run_ranked(workload), alone);
  EXPECT_EQ(comparison.differences, std::vector<std::string>());
}

INSTANTIATE_TEST_SUITE_P(Ranks, LayoutsOfGpus,
                         ::testing::Values(Case{"dense", golden_folder("qwen3"), {kContext, {.dp = 2}}},
                                           Case{"experts", golden_folder("qwen3_moe"), {kContext}},
                                           Case{"all_heads_norm", golden_folder("minimax_m2"), {kContext}}),
                         [](const auto& param) { return param.param.name; });

// The third field report: prompts of one sequence up to eight, whose lengths are odd, uneven or below the
// number of chunks, some behind a cached prefix, while others decode.
TEST_F(SeveralGpus, ShareTheRowsOfUnevenPrompts) {
  std::mt19937_64 random(kSeed);
  for (const int32_t sequences : {1, 8}) {
    SCOPED_TRACE(sequences);
    RankedWorkload workload = workload_of(golden_folder("qwen3_moe"));
    workload.requests.clear();
    workload.config.max_num_batched_tokens = 256;
    workload.config.chunk_size = sequences == 1 ? 256 : 32;
    const std::vector<int32_t> lengths = {131, 1, 2, 3, 4, 5, 29, 97};
    for (int32_t s = 0; s < sequences; ++s) {
      Request request{.max_tokens = 4, .temperature = 0, .logprobs = 2, .ignore_eos = true};
      for (int32_t t = 0; t < lengths[static_cast<size_t>(s)]; ++t)
        request.prompt_ids.push_back(static_cast<int32_t>(random() % 128));
      workload.requests.push_back(std::move(request));
      workload.arrivals.push_back(s % 4);
    }
    const RankedOutcome alone = run_ranked(workload);
    ASSERT_EQ(alone.errors, std::vector<std::string>());
    workload.shape = kContext;
    expect_same(alone, workload);
  }
}

}  // namespace
}  // namespace lockstep::testing
