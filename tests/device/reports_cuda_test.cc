// Two of the field reports on a CUDA device, at their own lengths.
#include <random>

#include "device/on_cuda.h"

namespace lockstep::testing {
namespace {

class FieldReports : public OnCuda<::testing::Test> {};

// A prompt of 95 tokens in pages of 128, well past eight times the pages that it began with.
TEST_F(FieldReports, ALengthIsNotFrozenByCaptureIn1400Steps) {
  constexpr int32_t kSteps = 1400;
  EngineConfig config = cuda_config(storyteller_folder(), ComputeDType::kBFloat16);
  config.page_size = 128;
  config.max_num_seqs = 2;
  config.max_model_len = 2048;
  Outcome runs[2];
  for (const bool eager : {false, true}) {
    const auto engine = make_engine(config);
    ASSERT_NE(engine, nullptr);
    if (eager) engine->executor().runner().set_eager("compared with graphs");
    const int64_t proofs = engine->runner().replays();
    ASSERT_TRUE(engine->add(greedy(prompt_of(95, 1, engine->model().spec.vocab), kSteps)).ok());
    runs[eager ? 1 : 0] = run_to_end(*engine);
    if (!eager) {
      EXPECT_GE(engine->runner().replays() - proofs, kSteps - 1);
    }
  }
  ASSERT_EQ(runs[0].tokens.begin()->second.size(), static_cast<size_t>(kSteps));
  EXPECT_EQ(runs[0].tokens, runs[1].tokens);
  EXPECT_EQ(runs[0].logits, runs[1].logits);  // bit for bit
}

// Each replay's plan is held to what the device read before and behind it; a field that a kernel had written
// to would end its step.
TEST_F(FieldReports, NoPlanIsWrittenToIn20000ReplaysOfChangingBatches) {
  constexpr int64_t kReplays = 20000;
  constexpr uint64_t kSeed = 5;
  EngineConfig config = cuda_config(golden_model("qwen3"), ComputeDType::kBFloat16);
  config.max_num_seqs = 12;
  config.max_model_len = 400;
  config.num_pages = 12 * 25;
  const auto engine = make_engine(config);
  ASSERT_NE(engine, nullptr);
  std::mt19937_64 random(kSeed);
  const int64_t proofs = engine->runner().replays();
  int32_t key = 0;
  size_t live = 0;
  while (engine->runner().replays() - proofs < kReplays) {
    while (live < 3 || (live < 12 && random() % 16 == 0)) {
      const auto length = static_cast<int32_t>(1 + random() % 40);
      const auto tokens = static_cast<int32_t>(20 + random() % 300);
      ASSERT_TRUE(engine->add(greedy(prompt_of(length, ++key, engine->model().spec.vocab), tokens)).ok());
      ++live;
    }
    for (const RequestOutput& output : engine->step()) {
      ASSERT_EQ(output.error, "") << "seed " << kSeed << ", request " << output.id;
      live -= output.finish != FinishReason::kNone ? 1 : 0;
    }
  }
  EXPECT_GT(key, 100);
}

}  // namespace
}  // namespace lockstep::testing
