// The level `full` over whole engines: every launch of random mixed batches runs again over poisoned pads,
// pages of nobody and fresh outputs, and no op of any family takes notice.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "../support/engines.h"
#include "../support/golden_file.h"

namespace lockstep::testing {
namespace {

constexpr uint64_t kSeed = 20250327;

// Batches that every model runs: 200 in all models together, or LOCKSTEP_LONG in each.
int batches() {
  const char* chosen = std::getenv("LOCKSTEP_LONG");
  return chosen != nullptr ? std::atoi(chosen) : 40;
}

struct Case {
  std::string name;
  std::string folder;
  ComputeDType dtype = ComputeDType::kFloat32;
};
std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

std::vector<Case> cases() {
  const std::string storyteller = concat(LOCKSTEP_SOURCE_DIR, "/models/storyteller");
  return {{"qwen3", golden_folder("qwen3")},
          {"qwen3_moe", golden_folder("qwen3_moe")},
          {"qwen3_next", golden_folder("qwen3_next")},
          {"minimax_m2", golden_folder("minimax_m2")},
          {"storyteller", storyteller, ComputeDType::kBFloat16}};
}

Request random_request(std::mt19937_64& random, int32_t vocab) {
  const auto pick = [&](uint64_t low, uint64_t high) { return low + random() % (high - low + 1); };
  std::vector<int32_t> prompt(pick(1, 40));
  for (int32_t& token : prompt) token = static_cast<int32_t>(pick(0, static_cast<uint64_t>(vocab) - 1));
  Request request = greedy(std::move(prompt), static_cast<int32_t>(pick(1, 12)));
  request.temperature = random() % 2 == 0 ? 0.0f : 0.8f;
  request.seed = random();
  if (random() % 3 == 0) request.repetition_penalty = 1.2f;
  if (random() % 4 == 0) request.logprobs = 3;
  return request;
}

struct Told {
  std::vector<std::pair<uint64_t, std::vector<int32_t>>> outputs;
  int mixed_steps = 0;
};

// Requests come while others run, so that steps prefill and decode at once.
Told run_steps(Engine& engine, int steps) {
  std::mt19937_64 random(kSeed);
  Told run;
  for (int step = 0; step < steps; ++step) {
    const bool idle = !engine.has_work();
    for (uint64_t i = random() % 3 + (idle ? 1 : 0); i > 0 && random() % 2 == 0; --i)
      EXPECT_TRUE(engine.add(random_request(random, engine.model().spec.vocab)).ok());
    for (const RequestOutput& output : engine.step()) {
      EXPECT_EQ(output.error, "") << "step " << step << ", seed " << kSeed;
      run.outputs.emplace_back(output.id, output.tokens);
    }
    if (static_cast<Phase>(engine.last_plan().scalar(field::phase)) == Phase::kMixed) ++run.mixed_steps;
  }
  return run;
}

class PoisonParity : public ::testing::TestWithParam<Case> {
 protected:
  std::unique_ptr<Engine> engine(GuardLevel level) const {
    EngineConfig config = small_config(GetParam().folder, GetParam().dtype);
    config.guard = level;
    config.max_num_seqs = 6;
    config.max_model_len = 128;
    config.chunk_size = 24;
    config.num_pages = 40;
    config.graph_sizes = {2, 4, 6};
    return make_engine(config);
  }
};

TEST_P(PoisonParity, NoOpTakesNoticeAndTokensAreThoseOfLevelPlan) {
  const std::unique_ptr<Engine> full = engine(GuardLevel::kFull), plan = engine(GuardLevel::kPlan);
  ASSERT_NE(full, nullptr);
  ASSERT_NE(plan, nullptr);

  const Told guarded = run_steps(*full, batches());

  EXPECT_EQ(guarded.outputs, run_steps(*plan, batches()).outputs);
  EXPECT_GT(guarded.outputs.size(), static_cast<size_t>(batches()) / 2);
  EXPECT_GT(guarded.mixed_steps, batches() / 10);
  ASSERT_NE(full->executor().guard(), nullptr);
  const Probe& probe = full->executor().guard()->probe();
  EXPECT_FALSE(probe.first_bad_launch().has_value());
  for (const Finding& finding : probe.findings())
    ADD_FAILURE() << finding.at.op << " " << finding.argument << ": " << finding.nan << " NaN";
  EXPECT_GT(probe.launches().size(), 20u);
}

INSTANTIATE_TEST_SUITE_P(Models, PoisonParity, ::testing::ValuesIn(cases()),
                         [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace lockstep::testing
