#include "plan/step_plan.h"

#include <gtest/gtest.h>

#include "plan/validate/simulation.h"

namespace lockstep {
namespace {

StepLimits two_groups() {
  StepLimits limits{.max_rows = 16,
                    .max_seqs = 8,
                    .max_logits_rows = 4,
                    .max_seq_len = 32,
                    .max_edits = 6,
                    .max_copies = 2,
                    .vocab_size = 10,
                    .dp_ranks = 3,
                    .num_groups = 2};
  limits.groups[0] = {.kind = GroupKind::kState, .num_pages = 4};
  limits.groups[1] = {
      .page_tokens = 4, .kernel_page_tokens = 2, .num_pages = 9, .table_rows = 4, .max_pages_per_seq = 8};
  return limits;
}

constexpr Bucket kBucket{PaddedRows(9), PaddedSeqs(5), PaddedRows(3)};

TEST(ImageLayout, GivesEachFieldItsCountAndAPlaceOfItsOwnAtSixteenBytes) {
  const StepLimits limits = two_groups();
  const ImageLayout layout(limits, kBucket);

  EXPECT_EQ(layout.place(FieldId::token_ids).count, 9);
  EXPECT_EQ(layout.place(FieldId::query_start_loc).count, 6);
  EXPECT_EQ(layout.place(FieldId::seq_lens).count, 5);
  EXPECT_EQ(layout.place(FieldId::logits_rows).count, 3);
  EXPECT_EQ(layout.place(FieldId::dp_row_counts).count, 3);
  EXPECT_EQ(layout.place(FieldId::epoch).count, 1);
  EXPECT_EQ(layout.place(FieldId::table_edits, GroupId(1)).count, 6);
  EXPECT_EQ(layout.place(FieldId::copies, GroupId(0)).count, 2);
  EXPECT_EQ(layout.place(FieldId::slot_mapping, GroupId(0)).offset, -1) << "a state group has no slots";
  EXPECT_EQ(layout.place(FieldId::token_ids, GroupId(1)).offset, -1) << "a field of the plan has one array";
  int32_t end = 0;
  for (const FieldInfo& info : kFields) {
    for (int32_t g = 0; g < kMaxGroups; ++g) {
      const ImageLayout::Place& place = layout.place(info.id, GroupId(g));
      if (place.offset < 0) continue;
      EXPECT_EQ(place.offset % 16, 0) << info.name;
      EXPECT_GE(place.offset, end) << info.name;
      end = place.offset + place.count * info.element_bytes;
    }
  }
  EXPECT_LE(end, layout.bytes());
  EXPECT_EQ(layout.bytes(), image_bytes(limits, kBucket));
}

TEST(StepPlan, HasNoElementsWhereAGroupHasNoField) {
  StepPlan plan;
  plan.reset(two_groups(), kBucket);

  EXPECT_TRUE(plan.get(field::slot_mapping, GroupId(0)).empty());
  EXPECT_EQ(plan.get(field::slot_mapping, GroupId(1)).size(), 9u);
}

TEST(StepPlan, IsLaidOutAnewWhenLimitsChangeUnderOneBucket) {
  StepLimits limits = two_groups();
  StepPlan plan;
  plan.reset(limits, kBucket);
  limits.max_edits = 7;
  limits.dp_ranks = 1;

  plan.reset(limits, kBucket);

  EXPECT_EQ(plan.get(field::table_edits, GroupId(1)).size(), 7u);
  EXPECT_EQ(plan.get(field::dp_row_counts).size(), 1u);
  EXPECT_EQ(plan.image().size(), static_cast<size_t>(ImageLayout(limits, kBucket).bytes()));
}

TEST(StepPlan, ResetLeavesNothingOfThePlanBefore) {
  StepPlan plan;
  plan.reset(two_groups(), kBucket);
  for (size_t i = 0; i < plan.image().size(); ++i) const_cast<std::byte&>(plan.image()[i]) = std::byte{0xAB};
  plan.freeze();

  plan.reset(two_groups(), kBucket);

  EXPECT_EQ(plan.digest(), 0u);
  for (const std::byte byte : plan.image()) ASSERT_EQ(byte, std::byte{0});
}

TEST(StepPlan, DigestFollowsEveryByteOfEveryField) {
  Simulation simulation(4);
  StepPlan plan;
  for (int i = 0; i < 12; ++i) ASSERT_TRUE(simulation.next(plan).ok());
  const Digest whole = plan.digest();
  for (const FieldInfo& info : kFields) {
    for (int32_t g = 0; g < simulation.limits().num_groups; ++g) {
      const ImageLayout::Place& place = plan.layout().place(info.id, GroupId(g));
      const Digest own = plan.field_digest(info.id, GroupId(g));
      for (int32_t b = 0; place.offset >= 0 && b < place.count * info.element_bytes; ++b) {
        auto& byte = const_cast<std::byte&>(plan.image()[static_cast<size_t>(place.offset + b)]);
        byte ^= std::byte{0x40};
        plan.freeze();
        EXPECT_NE(plan.digest(), whole) << info.name << " byte " << b;
        EXPECT_NE(plan.field_digest(info.id, GroupId(g)), own) << info.name << " byte " << b;
        byte ^= std::byte{0x40};
      }
      plan.freeze();
      EXPECT_EQ(plan.field_digest(info.id, GroupId(g)), own);
    }
  }
  plan.freeze();
  EXPECT_EQ(plan.digest(), whole);
}

TEST(StepPlan, DigestDependsOnWhatIsPlannedAndNotOnThePlanObject) {
  Simulation fresh_each_time(5), reused(5);
  StepPlan old;
  for (int i = 0; i < 40; ++i) {
    StepPlan plan;
    ASSERT_TRUE(fresh_each_time.next(plan).ok());
    ASSERT_TRUE(reused.next(old).ok());
    EXPECT_EQ(plan.digest(), old.digest()) << "plan " << i + 1;
  }
}

TEST(StepPlan, IsTheSameAgainFromItsImage) {
  const StepLimits limits = two_groups();
  const Bucket bucket{.rows = PaddedRows(3), .seqs = PaddedSeqs(2), .logits_rows = PaddedRows(2)};
  StepPlan plan, again;
  plan.reset(limits, bucket);
  plan.edit(field::token_ids)[2] = TokenId(17);
  plan.freeze();
  const Status loaded = again.load(limits, bucket, plan.image());
  ASSERT_TRUE(loaded.ok()) << loaded.message();
  EXPECT_EQ(again.digest(), plan.digest());
  EXPECT_EQ(again.get(field::token_ids)[2], TokenId(17));
  const std::string refused = again.load(limits, bucket, plan.image().subspan(1)).message();
  EXPECT_EQ(refused,
            concat("plan: an image of ", plan.image().size() - 1,
                   " bytes for 3 rows, 2 sequences and 2 logits rows; expected ", plan.image().size()));
  EXPECT_EQ(again.digest(), plan.digest());
}

}  // namespace
}  // namespace lockstep
