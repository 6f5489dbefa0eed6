#include "contract/binder.h"

#include <gtest/gtest.h>

#include "plan/step_plan.h"

namespace lockstep {
namespace {

constexpr FieldUse kUses[] = {
    {.field = FieldId::seq_lens, .argument = "op.seq_lens"},
    {.field = FieldId::num_rows, .feed = Feed::kAddress, .argument = "op.num_rows"},
    {.field = FieldId::max_seq_len, .feed = Feed::kValue, .argument = "op.longest"},
    {.field = FieldId::epoch, .feed = Feed::kValue, .argument = "op.epoch"},
    {.field = FieldId::table_rows, .argument = "op.table_rows"},
    {.field = FieldId::num_copies, .argument = "op.num_copies"},
};
constexpr ConsumerSpec kConsumer{.name = "paged_attention", .ops = {}, .fields = kUses};

constexpr GroupId kPages(0), kStates(1);

class BinderTest : public ::testing::Test {
 protected:
  BinderTest()
      : limits_{.max_rows = 8,
                .max_seqs = 4,
                .max_logits_rows = 4,
                .max_seq_len = 32,
                .max_edits = 8,
                .max_copies = 2,
                .vocab_size = 100,
                .num_groups = 2},
        arena_(Arena::create("image", 1 << 16).value()),
        image_(DeviceImage::create(with_groups(limits_), arena_).value()) {
    plan_.reset(limits_, {.rows = PaddedRows(8), .seqs = PaddedSeqs(3), .logits_rows = PaddedRows(2)});
    plan_.edit(field::epoch)[0] = Epoch(17);
    plan_.edit(field::num_rows)[0] = LiveRows(5);
    plan_.edit(field::max_seq_len)[0] = TokenCount(31);
    plan_.edit(field::seq_lens)[1] = TokenCount(9);
    plan_.edit(field::table_rows, kPages)[2] = TableRow(3);
    plan_.edit(field::num_copies, kStates)[0] = 2;
    plan_.freeze();
    EXPECT_TRUE(refresh().ok());
  }

  Status refresh() { return image_.refresh(plan_, stream_, staging_); }
  static StepLimits& with_groups(StepLimits& limits) {
    limits.groups[0] = {.kind = GroupKind::kPaged,
                        .page_tokens = 4,
                        .kernel_page_tokens = 4,
                        .num_pages = 9,
                        .table_rows = 5,
                        .max_pages_per_seq = 8};
    limits.groups[1] = {.kind = GroupKind::kState, .num_pages = 5};
    return limits;
  }

  StepLimits limits_;
  Arena arena_;
  DeviceImage image_;
  Stream stream_{1};
  StagingRing staging_{2, 1 << 16};
  StepPlan plan_;
  BindingLog log_;
  Binder binder_{plan_, image_, &log_};
};

TEST_F(BinderTest, GivesTheDeviceAddressOfADeclaredField) {
  const Result<TensorView> lengths = binder_.address(kConsumer, FieldId::seq_lens);

  ASSERT_TRUE(lengths.ok()) << lengths.status().message();
  EXPECT_EQ(lengths->shape, Shape({3}));
  EXPECT_EQ(lengths->as<int32_t>()[1], 9);
  EXPECT_TRUE(arena_.contains(lengths->data));
  EXPECT_NE(lengths->data, static_cast<const void*>(plan_.get(field::seq_lens).data()));
}

// A value is the host's; an address shows what the device holds, now and at each replay.
TEST_F(BinderTest, GivesValuesOfTheHostAndAddressesOfTheDevice) {
  const LiveRows* rows = *binder_.scalar_address(kConsumer, field::num_rows);
  plan_.edit(field::num_rows)[0] = LiveRows(6);
  plan_.edit(field::max_seq_len)[0] = TokenCount(7);

  EXPECT_EQ(*rows, LiveRows(5));
  EXPECT_EQ(*binder_.value(kConsumer, field::max_seq_len), TokenCount(7));
  ASSERT_TRUE(refresh().ok());
  EXPECT_EQ(*rows, LiveRows(6));
}

TEST_F(BinderTest, FindsTheFieldOfTheGroupThatWasAsked) {
  EXPECT_EQ((*binder_.address(kConsumer, FieldId::table_rows, kPages)).as<int32_t>()[2], 3);
  EXPECT_EQ(**binder_.scalar_address(kConsumer, field::num_copies, kPages), 0);
  EXPECT_EQ(**binder_.scalar_address(kConsumer, field::num_copies, kStates), 2);
}

TEST_F(BinderTest, RefusesAFieldThatTheConsumerDidNotDeclare) {
  const Result<TensorView> refused = binder_.address(kConsumer, FieldId::positions);

  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), Code::kInternal);
  EXPECT_EQ(refused.status().message(),
            "step 17: L1 paged_attention: positions is read by address; expected its spec to declare that");
  EXPECT_TRUE(log_.all().empty());
}

TEST_F(BinderTest, RefusesAValueWhereAnAddressWasDeclaredAndTheOtherWayRound) {
  const Result<LiveRows> value = binder_.value(kConsumer, field::num_rows);
  const Result<const TokenCount*> address = binder_.scalar_address(kConsumer, field::max_seq_len);

  ASSERT_FALSE(value.ok());
  EXPECT_EQ(value.status().message(),
            "step 17: L1 paged_attention: num_rows is read by value; expected its spec to declare that");
  ASSERT_FALSE(address.ok());
  EXPECT_EQ(address.status().message(),
            "step 17: L1 paged_attention: max_seq_len is read by address; expected its spec to declare that");
}

TEST_F(BinderTest, RefusesAGroupThatHasNoSuchField) {
  const Result<TensorView> of_states = binder_.address(kConsumer, FieldId::table_rows, kStates);
  const Result<TensorView> of_nobody = binder_.address(kConsumer, FieldId::table_rows, GroupId(5));
  const Result<TensorView> beyond = binder_.address(kConsumer, FieldId::table_rows, GroupId(kMaxGroups));
  const Result<TensorView> below = binder_.address(kConsumer, FieldId::table_rows, GroupId(-1));

  ASSERT_FALSE(of_states.ok());
  EXPECT_EQ(of_states.status().code(), Code::kInternal);
  EXPECT_EQ(of_states.status().message(),
            "L1 paged_attention: reads table_rows of group 1; expected a group that has this field");
  ASSERT_FALSE(of_nobody.ok());
  EXPECT_EQ(of_nobody.status().message(),
            "L1 paged_attention: reads table_rows of group 5; expected a group that has this field");
  ASSERT_FALSE(beyond.ok());
  EXPECT_EQ(beyond.status().message(),
            "L1 paged_attention: reads table_rows of group 8; expected a group that has this field");
  ASSERT_FALSE(below.ok());
}

TEST_F(BinderTest, LogsWhatItHandedOut) {
  (void)*binder_.address(kConsumer, FieldId::seq_lens);
  (void)*binder_.value(kConsumer, field::epoch);
  (void)*binder_.address(kConsumer, FieldId::table_rows, kPages);

  ASSERT_EQ(log_.all().size(), 3u);
  EXPECT_EQ(log_.all()[0].consumer, &kConsumer);
  EXPECT_EQ(log_.all()[0].field, FieldId::seq_lens);
  EXPECT_EQ(log_.all()[0].kind, Binding::Kind::kAddress);
  EXPECT_EQ(log_.all()[0].offset, plan_.layout().place(FieldId::seq_lens).offset);
  EXPECT_EQ(log_.all()[0].elements, 3);
  EXPECT_EQ(log_.all()[1].kind, Binding::Kind::kValue);
  EXPECT_EQ(log_.all()[1].elements, 1);
  EXPECT_EQ(log_.all()[2].field, FieldId::table_rows);
  EXPECT_EQ(log_.all()[2].group, kPages);
}

TEST_F(BinderTest, KeepsToTheListOfACaptureUntilSomethingDiffers) {
  (void)*binder_.address(kConsumer, FieldId::seq_lens);
  binder_.decide(kConsumer, "splits", 2);
  const std::vector<Binding> captured(log_.all().begin(), log_.all().end());

  log_.begin(captured);
  (void)*binder_.address(kConsumer, FieldId::seq_lens);
  binder_.decide(kConsumer, "splits", 2);
  EXPECT_EQ(log_.all().data(), captured.data());
  EXPECT_EQ(log_.all().size(), captured.size());

  log_.begin(captured);
  (void)*binder_.address(kConsumer, FieldId::seq_lens);
  binder_.decide(kConsumer, "splits", 3);
  binder_.decide(kConsumer, "tiles", 1);
  ASSERT_EQ(log_.all().size(), 3u);
  EXPECT_NE(log_.all().data(), captured.data());
  EXPECT_EQ(log_.all()[0], captured[0]);
  EXPECT_EQ(log_.all()[1].value, 3);
  EXPECT_EQ(log_.all()[2].name, "tiles");
}

TEST_F(BinderTest, NeedsNoLog) {
  const Binder silent(plan_, image_, nullptr);
  EXPECT_TRUE(silent.address(kConsumer, FieldId::seq_lens).ok());
  EXPECT_TRUE(silent.value(kConsumer, field::epoch).ok());
}

}  // namespace
}  // namespace lockstep
