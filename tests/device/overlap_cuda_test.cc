// Steps on a GPU that begin while the one before is under way, beside steps that wait for each other.
#include "device/on_cuda.h"
#include "support/visits.h"

namespace lockstep::testing {
namespace {

class OverlappedOnCuda : public OnCuda<::testing::TestWithParam<std::string_view>> {};

TEST_P(OverlappedOnCuda, BringsTheSameAsStepByStep) {
  const ModelFolder folder(golden_model(GetParam()));
  end_often(folder);
  EngineConfig config = crowded(folder.path());
  config.device = "cuda";
  config.batch_invariant = true;  // batches differ by when requests are taken in
  EngineStats sum;
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE(concat("seed ", seed));
    const std::vector<Visit> visits = random_visits(seed);
    config.overlap = Overlap::kNever;
    const Brought alone = attend(config, visits);
    config.overlap = Overlap::kOnDevices;
    const Brought overlapped = attend(config, visits);
    expect_same(alone, overlapped, visits, 1e-4f);  // rows alone and in chunks are summed in other orders
    EXPECT_EQ(alone.stats.overlapped, 0);
    EXPECT_EQ(alone.stats.not_overlapped.at("not asked for"), alone.stats.steps);
    sum.steps += overlapped.stats.steps;
    sum.overlapped += overlapped.stats.overlapped;
    sum.dropped_rows += overlapped.stats.dropped_rows;
    sum.preemptions += overlapped.stats.preemptions;
  }
  EXPECT_GT(sum.overlapped, sum.steps / 2);
  EXPECT_GT(sum.dropped_rows, 0);
  EXPECT_GT(sum.preemptions, 0);
}

INSTANTIATE_TEST_SUITE_P(Models, OverlappedOnCuda, ::testing::Values("qwen3", "qwen3_next", "qwen3_moe"),
                         [](const auto& given) { return std::string(given.param); });

}  // namespace
}  // namespace lockstep::testing
