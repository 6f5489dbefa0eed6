// Steps that begin while the one before is under way: every request brings what it brings where each step
// waits for the one before, and nothing of a step counts that the device read wrongly.
#include <gtest/gtest.h>

#include <map>

#include "support/golden_file.h"
#include "support/visits.h"

namespace lockstep::testing {
namespace {

// A sequence that loses its pages has other steps to itself when others came a step later. Rows of attention
// have the same bits however they come; those of recurrent layers differ in their last ones.
struct Case {
  std::string_view model;
  float near;
};
std::ostream& operator<<(std::ostream& out, const Case& each) { return out << each.model; }

class Overlapped : public ::testing::TestWithParam<Case> {};

TEST_P(Overlapped, BringsTheSameAsStepByStep) {
  const ModelFolder folder(golden_folder(std::string(GetParam().model)));
  end_often(folder);
  EngineConfig config = crowded(folder.path());
  EngineStats sum;
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE(concat("seed ", seed));
    const std::vector<Visit> visits = random_visits(seed);
    config.overlap = Overlap::kNever;
    config.pace = Pace::kAtOnce;
    const Brought alone = attend(config, visits);
    EXPECT_EQ(alone.stats.overlapped, 0);
    for (const Pace pace : {Pace::kAtOnce, Pace::kLate}) {
      SCOPED_TRACE(pace == Pace::kLate ? "late" : "at once");
      config.overlap = Overlap::kAlways;
      config.pace = pace;
      const Brought overlapped = attend(config, visits);
      expect_same(alone, overlapped, visits, GetParam().near);
      sum.steps += overlapped.stats.steps;
      sum.overlapped += overlapped.stats.overlapped;
      sum.dropped_rows += overlapped.stats.dropped_rows;
      sum.preemptions += overlapped.stats.preemptions;
      for (const auto& [reason, steps] : overlapped.stats.not_overlapped) sum.not_overlapped[reason] += steps;
    }
  }
  EXPECT_GT(sum.overlapped, sum.steps / 2);
  EXPECT_GT(sum.dropped_rows, 10);
  EXPECT_GT(sum.preemptions, 0);
  for (const std::string_view reason : {"nothing was under way", "a sequence had to give its pages back",
                                        "the scores of given tokens are read from logits",
                                        "the step before was the last of all its sequences"}) {
    EXPECT_GT(sum.not_overlapped[std::string(reason)], 0) << reason;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Overlapped,
                         ::testing::Values(Case{"qwen3", 0.0f}, Case{"qwen3_next", 1e-5f}),
                         [](const auto& given) { return std::string(given.param.model); });

// Writes to a length in the plan on the device, once, in front of the `skipped + 1`th draw.
struct Vandal {
  Executor& executor;
  int32_t skipped;

  static void before(void* self, const LaunchRecord& launch) {
    auto& [executor, left] = *static_cast<Vandal*>(self);
    if (launch.site.op() != "sample" || left-- != 0) return;
    const ImageLayout layout(executor.options().limits,
                             {.rows = PaddedRows(2), .seqs = PaddedSeqs(2), .logits_rows = PaddedRows(2)});
    const FieldView lens = executor.runner().image().view(layout, FieldId::seq_lens, GroupId(0));
    static_cast<int32_t*>(lens.data)[0] ^= 1 << 20;
  }
};

// The step behind it is on its way by then: its image has taken the place, and its outcome does not count.
TEST(OverlappedSteps, EndWithTheStepThatTheDeviceReadWronglyAndGoOnAfterwards) {
  EngineConfig config = crowded(golden_folder("qwen3"));
  config.overlap = Overlap::kAlways;
  config.pace = Pace::kLate;
  const auto engine = make_engine(config);
  const Transcript alone = run_alone(*engine, greedy({11, 12, 13}, 9));
  ASSERT_EQ(alone.tokens.size(), 9u);
  ASSERT_TRUE(engine->add(greedy({1, 2, 3}, 20)).ok());
  ASSERT_TRUE(engine->add(greedy({4, 5}, 20)).ok());
  Vandal vandal{engine->executor(), 4};
  engine->executor().stream().set_observer({.before = Vandal::before, .after = nullptr, .self = &vandal});
  std::map<uint64_t, std::string> errors;
  std::map<uint64_t, size_t> tokens;
  while (engine->has_work()) {
    for (const RequestOutput& output : engine->step()) {
      tokens[output.id] += output.tokens.size();
      if (output.finish != FinishReason::kNone) errors[output.id] = output.error;
    }
  }
  engine->executor().stream().set_observer({});

  EXPECT_TRUE(engine->idle());
  EXPECT_EQ(tokens, (std::map<uint64_t, size_t>{{2, 4}, {3, 4}}));
  ASSERT_EQ(errors.size(), 2u);
  for (const auto& [id, error] : errors) {
    EXPECT_NE(error.find(": R4 a kernel of the step: seq_lens is digest "), std::string::npos) << error;
  }
  EXPECT_EQ(run_alone(*engine, greedy({11, 12, 13}, 9)).tokens, alone.tokens);
}

TEST(OverlappedSteps, AreNotBegunWhereTheyCouldNotBeHeldToTheirPlans) {
  EngineConfig config = crowded(golden_folder("qwen3"));
  const auto engine = make_engine(config);
  const DecoderSpec& spec = engine->model().spec;
  config.overlap = Overlap::kOnDevices;
  EXPECT_EQ(reason_against_overlap(config, spec), "the CPU computes");
  config.overlap = Overlap::kNever;
  EXPECT_EQ(reason_against_overlap(config, spec), "not asked for");
  config.overlap = Overlap::kAlways;
  EXPECT_EQ(reason_against_overlap(config, spec), "");
  config.guard = GuardLevel::kFull;
  EXPECT_EQ(reason_against_overlap(config, spec), "guard level full");
  config.guard = GuardLevel::kReplay;
  DecoderSpec sparse = spec;
  sparse.softmax.sparse.emplace();
  EXPECT_EQ(reason_against_overlap(config, sparse), "derived fields are checked");
}

}  // namespace
}  // namespace lockstep::testing
