#include "contract/replay_check.h"

#include <gtest/gtest.h>

#include "base/fault.h"
#include "plan/step_plan.h"

namespace lockstep {
namespace {

constexpr FieldUse kUses[] = {
    {.field = FieldId::seq_lens, .argument = "attend.seq_lens"},
    {.field = FieldId::seq_lens, .feed = Feed::kValue, .argument = "attend.lengths"},
    {.field = FieldId::max_seq_len,
     .feed = Feed::kValue,
     .argument = "attend.longest",
     .freeze = Freeze::kUpperBound},
    {.field = FieldId::num_rows_padded, .feed = Feed::kValue, .argument = "attend.rows"},
};
constexpr ConsumerSpec kVendor{.name = "vendor", .ops = {}, .fields = kUses};
constexpr ConsumerSpec kOther{.name = "other", .ops = {}, .fields = kUses};

struct Launch {
  TensorView seq_lens;
  int64_t frozen = 0;
};

class ReplayCheckTest : public ::testing::Test {
 protected:
  ReplayCheckTest()
      : arena_(Arena::create("image", 1 << 16).value()),
        image_(DeviceImage::create(limits(), arena_).value()) {}

  static StepLimits limits() {
    StepLimits limits{.max_rows = 4,
                      .max_seqs = 4,
                      .max_logits_rows = 4,
                      .max_seq_len = 2048,
                      .vocab_size = 9,
                      .num_groups = 1};
    limits.groups[0] = {.kind = GroupKind::kState, .num_pages = 9};
    return limits;
  }
  static StepPlan plan_with(int32_t length) {
    StepPlan plan;
    plan.reset(limits(), {.rows = PaddedRows(2), .seqs = PaddedSeqs(2), .logits_rows = PaddedRows(2)});
    plan.edit(field::epoch)[0] = Epoch(static_cast<uint64_t>(length));
    plan.edit(field::seq_lens)[0] = TokenCount(7);
    plan.edit(field::seq_lens)[1] = TokenCount(length);
    plan.edit(field::max_seq_len)[0] = TokenCount(length);
    plan.freeze();
    return plan;
  }
  // What a consumer binds and prepares for a plan.
  template <typename Prepare>
  CapturedStep capture(const StepPlan& plan, const Prepare& consumer) {
    run(plan, consumer);
    return CapturedStep(plan, step_, log_.all());
  }
  template <typename Prepare>
  Status replay(const CapturedStep& captured, const StepPlan& plan, const Prepare& consumer) {
    run(plan, consumer);
    return captured.check(plan, step_, log_.all());
  }
  template <typename Prepare>
  void run(const StepPlan& plan, const Prepare& consumer) {
    log_.begin();
    step_.clear();
    const Binder binder(plan, image_, &log_);
    consumer(binder, step_.add<Launch>(kVendor));
  }

  Arena arena_;
  DeviceImage image_;
  BindingLog log_;
  PreparedStep step_;
};

TEST_F(ReplayCheckTest, WhatIsReadByAddressMayChange) {
  const auto consumer = [](const Binder& binder, Launch& launch) {
    launch.seq_lens = binder.address(kVendor, FieldId::seq_lens).value();
  };
  const CapturedStep captured = capture(plan_with(95), consumer);
  EXPECT_TRUE(replay(captured, plan_with(897), consumer).ok());
  EXPECT_EQ(reason_against_capture(captured.bindings()), "");
}

TEST_F(ReplayCheckTest, AValueThatWasCapturedIsNamedWithBothNumbers) {
  const auto consumer = [](const Binder& binder, Launch& launch) {
    launch.frozen = binder.values(kVendor, field::seq_lens).value()[1].get();
  };
  const CapturedStep captured = capture(plan_with(95), consumer);
  EXPECT_EQ(reason_against_capture(captured.bindings()), "vendor reads seq_lens on the host");
  EXPECT_TRUE(replay(captured, plan_with(95), consumer).ok());
  EXPECT_EQ(replay(captured, plan_with(96), consumer).message(),
            "step 96: R2 vendor: seq_lens[1] is 96; expected 95, which the graph has captured by value");
}

TEST_F(ReplayCheckTest, ABoundHoldsInItsDirection) {
  const auto consumer = [](const Binder& binder, Launch&) {
    EXPECT_TRUE(binder.value(kVendor, field::max_seq_len).ok());
  };
  const CapturedStep captured = capture(plan_with(95), consumer);
  EXPECT_EQ(reason_against_capture(captured.bindings()), "");
  EXPECT_TRUE(replay(captured, plan_with(12), consumer).ok());
  EXPECT_EQ(
      replay(captured, plan_with(96), consumer).message(),
      "step 96: R2 vendor: max_seq_len is 96; expected at most 95, which the graph has captured by value");
}

// It declares nothing and looks at the plan all the same: the bytes that it prepares give it away.
TEST_F(ReplayCheckTest, AnUndeclaredFreezeIsNamedByTheFieldThatHasItsValue) {
  const auto consumer = [](const Binder& binder, Launch& launch) {
    launch.frozen = binder.plan().get(field::seq_lens)[1].get();
  };
  const CapturedStep captured = capture(plan_with(95), consumer);
  const Status named = replay(captured, plan_with(897), consumer);
  ASSERT_NE(named.fault(), nullptr);
  EXPECT_EQ(named.fault()->check, "R2");
  EXPECT_EQ(named.fault()->consumer, "vendor");
  EXPECT_EQ(named.fault()->field, "seq_lens");
  EXPECT_EQ(named.fault()->row, 1);
  EXPECT_EQ(named.fault()->found, "897");
  EXPECT_TRUE(named.fault()->expected.starts_with("95, as captured")) << named.fault()->expected;
}

TEST_F(ReplayCheckTest, DecisionsAndBindingsAreThoseOfTheCapture) {
  const auto decides = [](const Binder& binder, Launch&) {
    binder.decide(kVendor, "splits", binder.plan().scalar(field::max_seq_len).get() / 100,
                  DecisionKind::kCount);
  };
  const CapturedStep captured = capture(plan_with(95), decides);
  EXPECT_TRUE(replay(captured, plan_with(12), decides).ok());
  EXPECT_EQ(replay(captured, plan_with(250), decides).message(),
            "step 250: R7 vendor: splits is 2; expected 0, as captured");
  const auto binds = [](const Binder& binder, Launch&) {
    EXPECT_TRUE(binder.address(kVendor, FieldId::seq_lens).ok());
  };
  EXPECT_EQ(replay(captured, plan_with(12), binds).message(),
            "step 12: R5 vendor: seq_lens is bound by address as number 0; expected vendor to bind splits as "
            "a decision, "
            "as captured");
  const auto nothing = [](const Binder&, Launch&) {};
  EXPECT_EQ(replay(captured, plan_with(12), nothing).message(),
            "step 12: R5 vendor: splits is bound at the capture and not now; expected the same bindings at "
            "every replay");
}

TEST(PreparedStep, IsLaunchedByWhoeverPreparedIt) {
  PreparedStep step;
  step.add<Launch>(kVendor, GroupId(1)).frozen = 5;
  EXPECT_EQ((*step.get<Launch>(kVendor, GroupId(1)))->frozen, 5);
  EXPECT_EQ(
      step.get<Launch>(kOther, GroupId(1)).status().message(),
      "L2 other: launch is for group 1, which it did not prepare; expected the variant that the step was "
      "prepared for: vendor");
}

}  // namespace
}  // namespace lockstep
