// P3 over several steps: who may write a page, by hand.
#include <gtest/gtest.h>

#include "plan/plan_builder.h"
#include "plan/validate.h"

namespace lockstep {
namespace {

// Two tokens per page, eight pages, three table rows beside the pad row.
class Owners : public testing::Test {
 protected:
  struct Share {
    int32_t table_row;
    int32_t computed;
    int32_t rows;
  };

  // Builds the next plan of these sequences, with copies, and says what the validator says.
  std::string step(std::initializer_list<Share> shares, std::vector<PageCopy> copies = {}) {
    std::vector<SequenceStep> steps;
    int32_t rows = 0;
    for (const Share& share : shares) {
      SequenceStep step{.tokens = std::span(tokens_).first(static_cast<size_t>(share.rows)),
                        .computed = TokenCount(share.computed),
                        .prompt_len = TokenCount(1)};
      step.table_rows[0] = TableRow(share.table_row);
      steps.push_back(step);
      rows += share.rows;
    }
    StepRequest request{.epoch = Epoch(++epoch_),
                        .sequences = steps,
                        .bucket = {PaddedRows(rows), PaddedSeqs(steps.size()), PaddedRows(0)}};
    request.copies[0] = copies;
    Status status = builder_.build(request, plan_);
    if (status.ok()) status = validator_.validate(plan_);
    if (status.ok()) builder_.accepted();
    return status.message();
  }
  void append(int32_t row, std::initializer_list<int32_t> pages) {
    for (const int32_t page : pages) tables_.append(TableRow(row), PageId(page));
  }

  static StepLimits limits() {
    StepLimits limits{.max_rows = 8,
                      .max_seqs = 3,
                      .max_seq_len = 8,
                      .max_edits = 8,
                      .max_copies = 2,
                      .vocab_size = 4,
                      .num_groups = 1};
    limits.groups[0] = {
        .page_tokens = 2, .kernel_page_tokens = 2, .num_pages = 8, .table_rows = 4, .max_pages_per_seq = 4};
    return limits;
  }

  std::vector<TokenId> tokens_ = std::vector<TokenId>(8);
  PageTables tables_{4, 4};
  PlanBuilder builder_{limits(), {&tables_}};
  PlanValidator validator_{limits()};
  StepPlan plan_;
  uint64_t epoch_ = 0;
};

TEST_F(Owners, OnePageInTwoRowsIsNamedWhenOneOfThemWritesIt) {
  append(1, {5, 6});
  append(2, {6});

  EXPECT_EQ(step({{1, 0, 3}, {2, 0, 1}}),
            "plan 1: P3 table_rows[0] of group 0 is 1; the page also stands at index 0 of table row 2 of "
            "sequence 1; expected a table row that alone holds page 6, which the sequence writes");
}

TEST_F(Owners, OnePageTwiceInOneRowIsNamed) {
  append(1, {5, 5});

  EXPECT_EQ(step({{1, 0, 3}}),
            "plan 1: P3 table_rows[0] of group 0 is 1; the page also stands at index 1 of table row 1 of "
            "sequence 0; expected a table row that alone holds page 5, which the sequence writes");
}

TEST_F(Owners, PagesThatNobodyWritesMayBeShared) {
  append(1, {5, 6});
  EXPECT_EQ(step({{1, 0, 3}}), "");
  append(2, {5, 7});
  append(3, {5, 4});

  EXPECT_EQ(step({{1, 3, 1}, {2, 2, 2}, {3, 2, 1}}), "");
}

TEST_F(Owners, ARowWhosePageAnotherRowHasWrittenIsNamedInALaterStep) {
  append(1, {5, 6});
  EXPECT_EQ(step({{1, 0, 3}}), "");
  append(2, {6});
  EXPECT_EQ(step({{2, 0, 2}}), "");

  EXPECT_EQ(
      step({{1, 3, 1}}),
      "plan 3: P3 table_rows[0] of group 0 is table row 1 with 1 page; table row 2 has written the next; "
      "expected a table row with 2 pages for 4 tokens");
}

TEST_F(Owners, ARowThatIsBegunAnewIsWhole) {
  append(1, {5, 6});
  EXPECT_EQ(step({{1, 0, 3}}), "");
  append(2, {6});
  EXPECT_EQ(step({{2, 0, 2}}), "");
  tables_.clear(TableRow(1));
  append(1, {7, 4});

  EXPECT_EQ(step({{1, 0, 3}, {2, 1, 1}}), "");
}

TEST_F(Owners, PagesLeftOverFromTheOwnerBeforeAreNobodys) {
  append(1, {5, 6});
  EXPECT_EQ(step({{1, 0, 3}}), "");
  tables_.clear(TableRow(1));
  append(2, {5, 6});

  // The new sequence of row 1 has no tokens yet, so it reads neither page.
  EXPECT_EQ(step({{1, 0, 0}, {2, 0, 3}}), "");
}

TEST_F(Owners, ACopyWritesThePageOfOneSequenceAtMost) {
  append(1, {5, 6});
  append(2, {5, 7});
  append(3, {4});

  EXPECT_EQ(
      step({{1, 2, 1}, {2, 2, 1}}, {{PageId(4), PageId(5)}}),
      "plan 1: P3 copies[0] of group 0 is 4 to 5, held by sequences 0 and 1; expected a target that one "
      "live sequence holds at most");
}

TEST_F(Owners, ACopyEndsTheOtherRowsThatHoldItsTarget) {
  append(1, {5, 6});
  EXPECT_EQ(step({{1, 0, 4}}), "");
  append(2, {5, 6});
  EXPECT_EQ(step({{2, 3, 1}}, {{PageId(7), PageId(5)}}), "");

  EXPECT_EQ(
      step({{1, 4, 0}}),
      "plan 3: P3 table_rows[0] of group 0 is table row 1 with 0 pages; table row 2 has written the next; "
      "expected a table row with 2 pages for 4 tokens");
}

TEST_F(Owners, AFullRowTakesNoMore) {
  append(1, {1, 2, 3, 4});
  EXPECT_EQ(step({{1, 0, 1}}), "");
  ASSERT_EQ(step({{1, 1, 1}}), "");

  plan_.edit(field::epoch)[0] = Epoch(9);
  plan_.edit(field::num_table_edits)[0] = 1;
  plan_.edit(field::table_edits)[0] = {.row = TableRow(1), .index = 4, .page = PageId(5)};

  EXPECT_EQ(
      validator_.validate(plan_).message(),
      "plan 9: P3 table_edits[0] of group 0 is page 5 at index 4 of table row 1; expected no edit: table "
      "row 1 is full");
}

TEST_F(Owners, AStepWithoutThePadRowInTheTableIsNamed) {
  append(1, {1});
  ASSERT_EQ(step({{1, 0, 1}}), "");
  PlanValidator late(limits());
  EXPECT_EQ(step({{1, 1, 1}}), "");

  EXPECT_EQ(
      late.validate(plan_).message(),
      "plan 2: P3 table_rows[0] of group 0 is table row 1 with 0 pages; expected a table row with 1 page "
      "for 2 tokens");
}

// A refused plan began a row anew and appended to another; both are as before when the next plan comes.
TEST_F(Owners, ARefusedPlanLeavesNoTrace) {
  append(1, {1, 2, 3});
  append(2, {4});
  ASSERT_EQ(step({{1, 0, 5}, {2, 0, 1}}), "");
  const StepPlan first = plan_;
  StepPlan bad = first;
  bad.edit(field::epoch)[0] = Epoch(5);
  const std::vector<TableEdit> edits = {{TableRow(1), 0, PageId(7)},
                                        {TableRow(2), 1, PageId(6)},
                                        {TableRow(1), 1, PageId(5)},
                                        {TableRow(1), 2, PageId(0)}};
  std::copy(edits.begin(), edits.end(), bad.edit(field::table_edits).begin());
  bad.edit(field::num_table_edits)[0] = 4;

  EXPECT_EQ(
      validator_.validate(bad).message(),
      "plan 5: P3 table_edits[3] of group 0 is page 0 at index 2 of table row 1; expected a page of 1..7");
  append(2, {5});

  EXPECT_EQ(step({{1, 5, 1}, {2, 1, 3}}), "");
}

}  // namespace
}  // namespace lockstep
