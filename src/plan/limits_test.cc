#include "plan/limits.h"

#include <gtest/gtest.h>

#include <limits>

#include "plan/step_plan.h"

namespace lockstep {
namespace {

constexpr int32_t kMost = std::numeric_limits<int32_t>::max();

StepLimits good() {
  StepLimits limits{.max_rows = 8,
                    .max_seqs = 4,
                    .max_logits_rows = 4,
                    .max_seq_len = 64,
                    .max_edits = 8,
                    .max_copies = 0,
                    .vocab_size = 10,
                    .num_groups = 2};
  limits.groups[0] = {
      .page_tokens = 16, .kernel_page_tokens = 8, .num_pages = 9, .table_rows = 5, .max_pages_per_seq = 4};
  limits.groups[1] = {.kind = GroupKind::kState, .num_pages = 2};
  return limits;
}

// What check_limits says after one change.
template <typename Change>
std::string refusal(Change change) {
  StepLimits limits = good();
  change(limits);
  const Status status = check_limits(limits);
  EXPECT_TRUE(status.ok() || status.code() == Code::kInvalidArgument);
  return status.message();
}

TEST(Limits, AreAcceptedWhenEverythingFits) {
  EXPECT_EQ(refusal([](StepLimits&) {}), "");
  EXPECT_EQ(refusal([](StepLimits& limits) { limits.num_groups = 0; }), "");
}

TEST(Limits, NameTheNumberThatIsTooSmall) {
  EXPECT_EQ(refusal([](StepLimits& limits) { limits.max_rows = 0; }),
            "limits: max_rows is 0; expected at least 1");
  EXPECT_EQ(refusal([](StepLimits& limits) { limits.max_seqs = 0; }),
            "limits: max_seqs is 0; expected at least 1");
  EXPECT_EQ(refusal([](StepLimits& limits) { limits.max_logits_rows = -1; }),
            "limits: max_logits_rows is -1; expected at least 0");
  EXPECT_EQ(refusal([](StepLimits& limits) { limits.max_seq_len = 0; }),
            "limits: max_seq_len is 0; expected at least 1");
  EXPECT_EQ(refusal([](StepLimits& limits) { limits.max_copies = -1; }),
            "limits: max_copies is -1; expected at least 0");
  EXPECT_EQ(refusal([](StepLimits& limits) { limits.vocab_size = 0; }),
            "limits: vocab_size is 0; expected at least 1");
  EXPECT_EQ(refusal([](StepLimits& limits) { limits.penalty_slots = -1; }),
            "limits: penalty_slots is -1; expected at least 0");
  EXPECT_EQ(refusal([](StepLimits& limits) { limits.mask_slots = -1; }),
            "limits: mask_slots is -1; expected at least 0");
  EXPECT_EQ(refusal([](StepLimits& limits) { limits.dp_ranks = 0; }),
            "limits: dp_ranks is 0; expected at least 1");
  EXPECT_EQ(refusal([](StepLimits& limits) { limits.num_groups = -1; }),
            "limits: num_groups is -1; expected at least 0");
  EXPECT_EQ(refusal([](StepLimits& limits) { limits.num_groups = 9; }),
            "limits: num_groups is 9; expected at most 8");
  EXPECT_EQ(refusal([](StepLimits& limits) { limits.max_edits = 0; }),
            "limits: max_edits is 0; expected at least 1: the first plan carries the pad row of group 0");
}

TEST(Limits, NameTheGroupThatDoesNotFit) {
  EXPECT_EQ(refusal([](StepLimits& limits) { limits.groups[1].num_pages = 1; }),
            "limits: group 1 has 1 pages; expected at least 2, the reserved one included");
  EXPECT_EQ(refusal([](StepLimits& limits) { limits.groups[0].kernel_page_tokens = 5; }),
            "limits: group 0 has pages of 16 tokens and kernel pages of 5; expected a positive size and a "
            "divisor of it");
  EXPECT_EQ(refusal([](StepLimits& limits) { limits.groups[0].page_tokens = 0; }),
            "limits: group 0 has pages of 0 tokens and kernel pages of 8; expected a positive size and a "
            "divisor of it");
  EXPECT_EQ(refusal([](StepLimits& limits) { limits.groups[0].max_pages_per_seq = 3; }),
            "limits: group 0 has 3 pages of 16 tokens per sequence; expected room for max_seq_len = 64");
  EXPECT_EQ(refusal([](StepLimits& limits) { limits.groups[0].table_rows = 1; }),
            "limits: group 0 has a page table of 1 rows of 4 entries; expected at least 2 rows and at most "
            "2147483647 entries; lower max_seqs or max_seq_len");
}

TEST(Limits, NameSizesThatDoNotFitThirtyTwoBits) {
  EXPECT_EQ(
      refusal([](StepLimits& limits) {
        limits.groups[0].table_rows = 1 << 16;
        limits.groups[0].max_pages_per_seq = 1 << 15;
      }),
      "limits: group 0 has a page table of 65536 rows of 32768 entries; expected at least 2 rows and at "
      "most 2147483647 entries; lower max_seqs or max_seq_len");
  EXPECT_EQ(
      refusal([](StepLimits& limits) { limits.max_seqs = kMost; }),
      concat("limits: a plan of 8 rows, 2147483647 sequences, 4 logits rows, 8 edits and 0 copies takes ",
             image_bytes(
                 [] {
                   StepLimits limits = good();
                   limits.max_seqs = kMost;
                   return limits;
                 }(),
                 {PaddedRows(8), PaddedSeqs(kMost), PaddedRows(4)}),
             " bytes; expected at most 2147483647"));
}

}  // namespace
}  // namespace lockstep
