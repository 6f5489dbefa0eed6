// Engines of two ranks, each on a GPU of its own, that exchange through NCCL: the second and third field
// reports' layouts give the tokens of one GPU alone, and ranks that disagree are named.
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <random>
#include <thread>

#include "../support/engines.h"
#include "../support/golden_file.h"
#include "base/fault.h"
#include "comm/thread_fabric.h"
#include "device/registry.h"
#include "rank_engines.h"
#include "wrong_rank.h"

namespace lockstep::testing {
namespace {

constexpr uint64_t kSeed = 20261125;
constexpr std::chrono::seconds kPatient{30};

// Kernels that are loaded when they are first launched wait for their device while they hold what threads of
// other devices need: ranks of one process would wait for each other for ever. Processes do not.
[[maybe_unused]] const int kLoadedAtOnce = ::setenv("CUDA_MODULE_LOADING", "EAGER", 1);

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

constexpr MeshShape kTensor{.tp = 2}, kExperts{.dp = 2, .expert_parallel = true}, kContext{.cp = 2},
    kTensorExperts{.tp = 2, .expert_parallel = true};

INSTANTIATE_TEST_SUITE_P(
    Ranks, LayoutsOfGpus,
    ::testing::Values(
        Case{"dense", golden_folder("qwen3"), {kTensor, kContext, {.dp = 2}}},
        Case{"experts", golden_folder("qwen3_moe"), {kTensor, kExperts, kContext, kTensorExperts}},
        Case{"hybrid", golden_folder("qwen3_next"), {kTensor, kExperts}},
        Case{"all_heads_norm", golden_folder("minimax_m2"), {kTensor, kExperts, kContext}},
        Case{"storyteller", LOCKSTEP_SOURCE_DIR "/models/storyteller", {kTensor, kExperts}}),
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

// One of two ranks goes its own way.
struct Heard {
  std::array<Status, 2> ranks;
  double seconds = 0;
};
Heard play(const RankDrill& drill, const MeshShape& shape) {
  using Clock = std::chrono::steady_clock;
  const auto world = std::make_shared<ThreadWorld>(2, kPatient);
  Heard heard;
  Clock::time_point wrong_at = Clock::now();
  {
    std::vector<std::jthread> threads;
    for (int32_t rank = 0; rank < 2; ++rank) {
      threads.emplace_back([&, rank] {
        auto mesh = Mesh::create(shape, std::make_unique<ThreadFabric>(world, rank));
        heard.ranks[static_cast<size_t>(rank)] =
            mesh.ok() ? play_rank({.drill = drill,
                                   .mesh = **mesh,
                                   .model = golden_folder("qwen3_moe"),
                                   .device = gpu(rank),
                                   .goes_wrong = [&wrong_at] { wrong_at = Clock::now(); }})
                      : mesh.status();
      });
    }
  }
  heard.seconds = std::chrono::duration<double>(Clock::now() - wrong_at).count();
  return heard;
}

TEST_F(SeveralGpus, NameTheRankThatDisagreesWithinTenSeconds) {
  for (const RankDrill& drill : rank_drills()) {
    if (drill.crosses_groups) continue;
    SCOPED_TRACE(drill.name);
    const bool idle = drill.rank > 1;  // has no requests: a replica of its own
    const bool source = drill.name == "own source";
    RankDrill here = drill;
    if (here.rank > 1) here.rank = 1;
    const Heard heard = play(here, idle && !source ? kExperts : kTensor);
    EXPECT_LT(heard.seconds, 10);
    if (drill.rank < 0) {
      for (const Status& status : heard.ranks) EXPECT_EQ(status.message(), "");
      continue;
    }
    ASSERT_NE(heard.ranks[0].fault(), nullptr) << heard.ranks[0].message();
    EXPECT_EQ(heard.ranks[0].fault()->check, "G1");
    EXPECT_EQ(heard.ranks[1].message(), heard.ranks[0].message());
    EXPECT_NE(heard.ranks[0].message().find("differs"), std::string::npos) << heard.ranks[0].message();
    std::cout << drill.name << ", " << heard.seconds << " s: " << heard.ranks[0].message() << "\n";
  }
}

}  // namespace
}  // namespace lockstep::testing
