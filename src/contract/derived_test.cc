#include "contract/derived.h"

#include <gtest/gtest.h>

#include "contract/binder.h"
#include "plan/step_plan.h"

namespace lockstep {
namespace {

// Where each sequence's pages begin in a ragged list: the prefix sum of its pages of 4 tokens.
int64_t capacity(const StepLimits& limits) { return limits.max_seqs + 1; }
int64_t live(const StepLimits&, const StepPlan& plan) { return plan.scalar(field::num_seqs).get() + 1; }
DerivedSpec::Range range(const StepLimits& limits, const StepPlan&) { return {0, limits.max_seqs * 8}; }
void reference(const StepLimits&, const StepPlan& plan, std::span<int32_t> out) {
  out[0] = 0;
  for (size_t s = 0; s + 1 < out.size(); ++s)
    out[s + 1] = out[s] + (plan.get(field::seq_lens)[s].get() + 3) / 4;
}
constexpr FieldId kSources[] = {FieldId::seq_lens, FieldId::num_seqs};
constexpr DerivedSpec kIndptr{.name = "kv_indptr",
                              .unit = Unit::kPages,
                              .form = Form::kCumulative,
                              .rule = DerivedRule::kMonotone,
                              .pad_value = -1,
                              .sources = kSources,
                              .capacity = capacity,
                              .range = range,
                              .live = live,
                              .reference = reference};
constexpr const DerivedSpec* kDerived[] = {&kIndptr};
constexpr ConsumerSpec kMaker{.name = "planner", .ops = {}, .fields = {}, .derives = kDerived};
constexpr ConsumerSpec kReader{.name = "reader", .ops = {}, .fields = {}, .reads = kDerived};
constexpr ConsumerSpec kStranger{.name = "stranger", .ops = {}, .fields = {}};

class DerivedTest : public ::testing::Test {
 protected:
  DerivedTest()
      : arena_(Arena::create("derived", 1 << 16).value()),
        image_(DeviceImage::create(limits(), arena_).value()),
        fields_(DerivedFields::create(kDerived, limits(), arena_).value()) {}

  static StepLimits limits() {
    StepLimits limits{.max_rows = 4,
                      .max_seqs = 3,
                      .max_logits_rows = 3,
                      .max_seq_len = 64,
                      .vocab_size = 9,
                      .num_groups = 1};
    limits.groups[0] = {.kind = GroupKind::kState, .num_pages = 9};
    return limits;
  }
  static StepPlan plan(uint64_t epoch, int32_t first) {
    StepPlan plan;
    plan.reset(limits(), {.rows = PaddedRows(2), .seqs = PaddedSeqs(2), .logits_rows = PaddedRows(2)});
    plan.edit(field::epoch)[0] = Epoch(epoch);
    plan.edit(field::num_seqs)[0] = LiveSeqs(2);
    plan.edit(field::seq_lens)[0] = TokenCount(first);
    plan.edit(field::seq_lens)[1] = TokenCount(5);
    plan.freeze();
    return plan;
  }
  // The message of a host-made field with these entries.
  std::string said_of(const StepPlan& plan, std::vector<int32_t> entries) {
    const Binder binder(plan, image_, nullptr, &fields_);
    const std::span<int32_t> out = binder.derive(kMaker, kIndptr).value();
    EXPECT_EQ(out.size(), entries.size());
    std::copy(entries.begin(), entries.end(), out.begin());
    return binder.check_host_made().message();
  }

  Arena arena_;
  DeviceImage image_;
  DerivedFields fields_;
};

TEST_F(DerivedTest, ArriveOnTheDeviceWithTheirPads) {
  const StepPlan now = plan(7, 9);
  EXPECT_EQ(said_of(now, {0, 3, 5}), "");
  Stream stream(1, Pace::kLate);
  StagingRing staging(1, 64);
  ASSERT_TRUE(fields_.refresh(stream, staging).ok());
  stream.synchronize();
  const Binder binder(now, image_, nullptr, &fields_);
  const TensorView view = binder.derived(kReader, kIndptr).value();
  EXPECT_EQ(std::vector<int32_t>(view.as<int32_t>(), view.as<int32_t>() + 4),
            (std::vector<int32_t>{0, 3, 5, -1}));
}

TEST_F(DerivedTest, MadeOnTheHostAreWhatTheReferenceSays) {
  EXPECT_EQ(said_of(plan(7, 9), {0, 3, 6}),
            "step 7: P8 derived: kv_indptr[2] is 6; expected 5, as its reference derives it");
}

TEST_F(DerivedTest, OfAnEarlierStepAreNotRead) {
  EXPECT_EQ(said_of(plan(7, 9), {0, 3, 5}), "");
  const StepPlan next = plan(8, 9);
  const Binder binder(next, image_, nullptr, &fields_);
  EXPECT_EQ(binder.derived(kReader, kIndptr).status().message(),
            "step 8: P8 reader: kv_indptr is derived in step 7; expected derived in step 8 from this plan");
}

TEST_F(DerivedTest, OfOtherSourcesAreNotRead) {
  EXPECT_EQ(said_of(plan(7, 9), {0, 3, 5}), "");
  const StepPlan changed = plan(7, 1);
  const Binder binder(changed, image_, nullptr, &fields_);
  EXPECT_EQ(binder.derived(kReader, kIndptr).status().message(),
            "step 7: P8 reader: kv_indptr is derived in step 7 from other values of its sources; expected "
            "derived in step "
            "7 from this plan");
}

TEST_F(DerivedTest, GoToConsumersThatListThem) {
  const StepPlan now = plan(7, 9);
  const Binder binder(now, image_, nullptr, &fields_);
  EXPECT_EQ(binder.derive(kReader, kIndptr).status().message(),
            "step 7: L1 reader: kv_indptr is asked for; expected its spec to list the field");
  EXPECT_EQ(binder.derived(kStranger, kIndptr).status().message(),
            "step 7: L1 stranger: kv_indptr is asked for; expected its spec to list the field");
}

// The rule alone, as it is held behind a kernel: 36606 then 34891 is a fall, whatever was planned.
TEST_F(DerivedTest, KeepTheirRuleWhoeverMadeThem) {
  DerivedSpec wide = kIndptr;
  wide.range = [](const StepLimits&, const StepPlan&) { return DerivedSpec::Range{0, 1 << 20}; };
  const auto said = [&](const std::vector<int32_t>& values) {
    return check_derived(wide, limits(), plan(7, 9),
                         {.consumer = "select_pages", .moment = Moment::kCommit, .values = values, .of = {}})
        .message();
  };
  EXPECT_EQ(said({0, 36606, 36700}), "");
  EXPECT_EQ(said({0, 36606, 34891}),
            "step 7: P3 select_pages: kv_indptr[2] is 34891; expected at least 36606, the entry before");
  EXPECT_EQ(said({1, 2, 3}), "step 7: P3 select_pages: kv_indptr[0] is 1; expected 0, where it begins");
  EXPECT_EQ(said({0, 2, 1 << 20}),
            "step 7: P3 select_pages: kv_indptr[2] is 1048576; expected in [0, 1048576)");
}

// Lists of blocks: two of three entries, one of none, one of two.
TEST_F(DerivedTest, ThatAscendDoSoWithinEachPiece) {
  DerivedSpec blocks = kIndptr;
  blocks.name = "selected_blocks";
  blocks.rule = DerivedRule::kAscending;
  blocks.range = [](const StepLimits&, const StepPlan&) { return DerivedSpec::Range{0, 100}; };
  blocks.piece_end = [](const StepLimits&, const StepPlan&, int64_t piece) {
    return 10 * static_cast<int32_t>(piece) + 10;
  };
  const std::vector<int32_t> starts = {0, 3, 6, 6, 8};
  const auto said = [&](const std::vector<int32_t>& values) {
    return check_derived(blocks, limits(), plan(7, 9),
                         {.consumer = "derived", .moment = Moment::kCommit, .values = values, .of = starts})
        .message();
  };
  EXPECT_EQ(said({0, 1, 9, 0, 5, 19, 3, 39}), "");
  EXPECT_EQ(said({0, 1, 9, 0, 5, 5, 3, 39}),
            "step 7: P3 derived: selected_blocks[5] is 5; expected more than 5, the entry before");
  EXPECT_EQ(said({0, 1, 10, 0, 5, 19, 3, 39}),
            "step 7: P3 derived: selected_blocks[2] is 10; expected below 10, inside its sequence");
  EXPECT_EQ(said({0, 1, 9, 0, 5, 19, -3, 39}),
            "step 7: P3 derived: selected_blocks[6] is -3; expected in [0, 100)");
}

}  // namespace
}  // namespace lockstep
