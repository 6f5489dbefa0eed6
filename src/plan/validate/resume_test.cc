// A validator that begins in the middle says of later plans what one says that saw all of them.
#include <gtest/gtest.h>

#include "plan/plan_builder.h"
#include "plan/validate.h"

namespace lockstep {
namespace {

StepLimits limits() {
  StepLimits limits{.max_rows = 4,
                    .max_seqs = 2,
                    .max_logits_rows = 2,
                    .max_seq_len = 16,
                    .max_edits = 8,
                    .vocab_size = 4,
                    .num_groups = 2};
  limits.groups[0] = {
      .page_tokens = 2, .kernel_page_tokens = 2, .num_pages = 8, .table_rows = 3, .max_pages_per_seq = 8};
  limits.groups[1] = {.kind = GroupKind::kState, .num_pages = 3};
  return limits;
}

// The decode step of one sequence that has 5 tokens behind it in pages 4, 2 and 7.
StepPlan third_plan() {
  PageTables tables(3, 8);
  for (const int32_t page : {4, 2, 7}) tables.append(TableRow(1), PageId(page));
  tables.edits_taken();
  const std::vector<TokenId> tokens(1);
  SequenceStep step{.tokens = tokens,
                    .last_token_source = TokenSource(0),
                    .computed = TokenCount(5),
                    .prompt_len = TokenCount(5),
                    .state_slot = StateSlot(2),
                    .wants_logits = true};
  step.table_rows[0] = TableRow(1);
  StepPlan plan;
  const Status built = PlanBuilder(limits(), {&tables, nullptr})
                           .build({.epoch = Epoch(3),
                                   .source_epoch = Epoch(2),
                                   .sequences = {&step, 1},
                                   .bucket = {PaddedRows(1), PaddedSeqs(1), PaddedRows(1)}},
                                  plan);
  EXPECT_TRUE(built.ok()) << built.message();
  return plan;
}

TableEdit entry(int32_t row, int32_t index, int32_t page) {
  return {.row = TableRow(row), .index = index, .page = PageId(page)};
}

std::string verdict(const std::vector<TableEdit>& entries, Epoch last, int32_t logits_rows) {
  PlanValidator validator(limits());
  PlanValidator::Past past{.epoch = last, .logits_rows = LiveRows(logits_rows)};
  past.tables[0] = entries;
  const Status resumed = validator.resume(past);
  return resumed.ok() ? validator.validate(third_plan()).message() : resumed.message();
}

const std::vector<TableEdit> kEntries = {entry(0, 0, 0), entry(1, 0, 4), entry(1, 1, 2), entry(1, 2, 7)};

TEST(Resume, AcceptsThePlanThatFollows) { EXPECT_EQ(verdict(kEntries, Epoch(2), 1), ""); }

TEST(Resume, WithoutThePastTheSamePlanIsRefused) {
  const std::string message = PlanValidator(limits()).validate(third_plan()).message();

  EXPECT_NE(message, "");
}

TEST(Resume, OtherPagesThanThePlanWasMadeForAreNamed) {
  std::vector<TableEdit> entries = kEntries;
  entries[2].page = PageId(3);

  EXPECT_TRUE(verdict(entries, Epoch(2), 1).starts_with("plan 3: P3 table_digests[0] of group 0 is "))
      << verdict(entries, Epoch(2), 1);
}

TEST(Resume, AnEpochThatDoesNotGrowIsNamed) {
  EXPECT_TRUE(verdict(kEntries, Epoch(3), 1).starts_with("plan 3: GEO epoch is 3; expected "))
      << verdict(kEntries, Epoch(3), 1);
}

TEST(Resume, RefusesEntriesThatNoPlanCouldHaveMade) {
  const std::string expected = "; expected the next entry of a row, with a page of the pool";
  struct Wrong {
    TableEdit entry;
    std::string text;
  };
  for (const Wrong& wrong : {Wrong{entry(3, 0, 1), "page 1 at index 0 of table row 3"},
                             Wrong{entry(-1, 0, 1), "page 1 at index 0 of table row -1"},
                             Wrong{entry(1, 1, 1), "page 1 at index 1 of table row 1"},
                             Wrong{entry(1, 0, 0), "page 0 at index 0 of table row 1"},
                             Wrong{entry(1, 0, 8), "page 8 at index 0 of table row 1"},
                             Wrong{entry(0, 0, 1), "page 1 at index 0 of table row 0"}}) {
    EXPECT_EQ(verdict({wrong.entry}, Epoch(2), 1),
              "validator: entry 0 of the tables of group 0 is " + wrong.text + expected);
  }
}

}  // namespace
}  // namespace lockstep
