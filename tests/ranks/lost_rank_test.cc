// What an engine does when the mesh is closed under it.
#include <gtest/gtest.h>

#include <thread>

#include "../support/engines.h"
#include "../support/golden_file.h"
#include "comm/thread_fabric.h"

namespace lockstep::testing {
namespace {

constexpr int kEnough = 100;  // calls of step() that no test needs

// A leader's part of a job of two replicas that meet in the experts.
struct Leader {
  std::vector<std::string> errors;  // of its requests
  int steps = 0;                    // until it had no more work
};

// Rank 1 has no requests, and closes the mesh in its third step instead of taking part.
Leader run_leader(const std::shared_ptr<ThreadWorld>& world, int32_t rank) {
  Leader leader;
  const MeshShape shape{.dp = 2, .expert_parallel = true};
  const auto mesh = std::move(Mesh::create(shape, std::make_unique<ThreadFabric>(world, rank))).value();
  EngineConfig config = small_config(golden_folder("qwen3_moe"));
  config.threads = 1;
  config.max_num_seqs = 2;
  config.parallel = shape;
  config.mesh = mesh.get();
  config.enforce_eager = true;
  const std::unique_ptr<Engine> engine = make_engine(config);
  if (rank == 0) {
    EXPECT_TRUE(engine->add(greedy({1, 2, 3}, 50)).ok());
  }
  do {
    if (rank == 1 && leader.steps == 2) mesh->fail(error(Code::kDevice, "rank 1 has had enough"));
    for (const RequestOutput& output : engine->step()) {
      if (!output.error.empty()) leader.errors.push_back(output.error);
    }
  } while (++leader.steps < kEnough && engine->any_work());
  return leader;
}

TEST(LostRank, EndsTheWorkOfEveryLeaderWhoseReplicaMeetsTheLostOne) {
  const auto world = std::make_shared<ThreadWorld>(2, std::chrono::seconds(60));
  std::array<Leader, 2> leaders;
  {
    std::vector<std::jthread> threads;
    for (int32_t rank = 0; rank < 2; ++rank)
      threads.emplace_back([&, rank] { leaders[static_cast<size_t>(rank)] = run_leader(world, rank); });
  }
  EXPECT_EQ(leaders[0].errors, std::vector<std::string>{"rank 1 has had enough"});
  EXPECT_EQ(leaders[0].steps, 3);
  EXPECT_EQ(leaders[1].steps, 3) << "it had no request that could have failed";
}

}  // namespace
}  // namespace lockstep::testing
