#include "plan/plan_builder.h"

#include <gtest/gtest.h>

#include "plan/validate.h"

namespace lockstep {
namespace {

// A plan's numbers as plain integers, so that expectations can be read.
template <typename T>
std::vector<int64_t> numbers(const StepPlan& plan, Field<T> f, int32_t group = 0) {
  std::vector<int64_t> out;
  for (const T& value : plan.get(f, GroupId(group))) {
    if constexpr (std::is_same_v<T, SlotOrSkip>)
      out.push_back(value.is_skip() ? -1 : value.slot());
    else if constexpr (std::is_same_v<T, StateSlotOrSkip>)
      out.push_back(value.is_skip() ? -1 : value.slot().get());
    else if constexpr (std::is_arithmetic_v<T>)
      out.push_back(static_cast<int64_t>(value));
    else
      out.push_back(value.get());
  }
  return out;
}
using Numbers = std::vector<int64_t>;

// Pages of 4 tokens in group 0, 8 state slots in group 1; sequences that each have a table row of their own.
class Builder : public testing::Test {
 protected:
  static StepLimits limits() {
    StepLimits limits{.max_rows = 32,
                      .max_seqs = 8,
                      .max_logits_rows = 8,
                      .max_seq_len = 40,
                      .max_edits = 64,
                      .max_copies = 2,
                      .vocab_size = 100,
                      .penalty_slots = 2,
                      .num_groups = 2};
    limits.groups[0] = {
        .page_tokens = 4, .kernel_page_tokens = 4, .num_pages = 60, .table_rows = 7, .max_pages_per_seq = 10};
    limits.groups[1] = {.kind = GroupKind::kState, .num_pages = 8};
    return limits;
  }

  // A sequence with pages 10 * row + 1, 10 * row + 2, ... and state slot `row`, whose computed tokens earlier
  // steps have run.
  SequenceStep sequence(int32_t row, int32_t computed, int32_t rows) {
    if (computed > 0) {
      const std::vector<SequenceStep> before = {share(row, 0, computed)};
      expect_plan(before, computed, 1, 1);
    }
    return share(row, computed, rows);
  }
  SequenceStep share(int32_t row, int32_t computed, int32_t rows) {
    const auto pages = static_cast<int32_t>(tables_.pages(TableRow(row)).size());
    for (int32_t page = pages; page * 4 < computed + rows; ++page)
      tables_.append(TableRow(row), PageId(10 * row - 9 + page));
    SequenceStep step{
        .tokens = std::span(tokens_).subspan(static_cast<size_t>(computed), static_cast<size_t>(rows)),
        .computed = TokenCount(computed),
        .prompt_len = TokenCount(1),
        .state_slot = StateSlot(row),
        .wants_logits = rows > 0};
    step.table_rows[0] = TableRow(row);
    return step;
  }
  Status build(const std::vector<SequenceStep>& steps, int32_t rows, int32_t seqs, int32_t logits_rows) {
    LS_TRY(builder_.build({.epoch = Epoch(++epoch_),
                           .sequences = steps,
                           .bucket = {PaddedRows(rows), PaddedSeqs(seqs), PaddedRows(logits_rows)}},
                          plan_));
    LS_TRY(validator_.validate(plan_));
    builder_.accepted();
    return {};
  }
  // Builds what has to be valid.
  void expect_plan(const std::vector<SequenceStep>& steps, int32_t rows, int32_t seqs, int32_t logits_rows) {
    const Status status = build(steps, rows, seqs, logits_rows);
    ASSERT_TRUE(status.ok()) << status.message();
  }

  static std::vector<TokenId> counting() {
    std::vector<TokenId> tokens;
    for (int32_t i = 0; i < 40; ++i) tokens.emplace_back(i + 50);
    return tokens;
  }
  std::vector<TokenId> tokens_ = counting();
  PageTables tables_{7, 10};
  PlanBuilder builder_{limits(), {&tables_, nullptr}};
  PlanValidator validator_{limits()};
  StepPlan plan_;
  uint64_t epoch_ = 0;
};

TEST_F(Builder, PadsADecodeStepWithSequencesOfOneRow) {
  expect_plan({sequence(1, 9, 1), sequence(2, 0, 1), sequence(3, 3, 1)}, 5, 6, 4);

  EXPECT_EQ(numbers(plan_, field::query_start_loc), (Numbers{0, 1, 2, 3, 4, 5, 5}));
  EXPECT_EQ(numbers(plan_, field::token_ids), (Numbers{59, 50, 53, 0, 0}));
  EXPECT_EQ(numbers(plan_, field::positions), (Numbers{9, 0, 3, 0, 0}));
  EXPECT_EQ(numbers(plan_, field::seq_lens), (Numbers{10, 1, 4, 1, 1, 0}));
  EXPECT_EQ(numbers(plan_, field::computed_lens), (Numbers{9, 0, 3, 0, 0, 0}));
  EXPECT_EQ(numbers(plan_, field::table_rows), (Numbers{1, 2, 3, 0, 0, 0}));
  EXPECT_EQ(numbers(plan_, field::slot_mapping), (Numbers{3 * 4 + 1, 11 * 4, 21 * 4 + 3, -1, -1}));
  EXPECT_EQ(numbers(plan_, field::state_read_slot), (Numbers{1, 2, 3, 0, 0, 0}));
  EXPECT_EQ(numbers(plan_, field::state_write_slots), (Numbers{1, 2, 3, -1, -1}));
  EXPECT_EQ(numbers(plan_, field::has_initial_state), (Numbers{1, 0, 1, 0, 0, 0}));
  EXPECT_EQ(numbers(plan_, field::logits_rows), (Numbers{0, 1, 2, -1}));
  EXPECT_EQ(numbers(plan_, field::sample_positions), (Numbers{10, 1, 4, 0}));
  EXPECT_EQ(plan_.scalar(field::phase), static_cast<int32_t>(Phase::kDecode));
  EXPECT_EQ(plan_.scalar(field::uniform_query_len), RowCount(1));
  EXPECT_EQ(plan_.scalar(field::num_rows), LiveRows(3));
  EXPECT_EQ(plan_.scalar(field::max_seq_len), TokenCount(10));
}

TEST_F(Builder, PadsARaggedStepWithSequencesOfUpToAPage) {
  expect_plan({sequence(1, 0, 5), sequence(2, 6, 2)}, 16, 6, 2);

  EXPECT_EQ(numbers(plan_, field::query_start_loc), (Numbers{0, 5, 7, 11, 15, 16, 16}));
  EXPECT_EQ(numbers(plan_, field::positions), (Numbers{0, 1, 2, 3, 4, 6, 7, 0, 1, 2, 3, 0, 1, 2, 3, 0}));
  EXPECT_EQ(numbers(plan_, field::seq_lens), (Numbers{5, 8, 4, 4, 1, 0}));
  EXPECT_EQ(numbers(plan_, field::slot_mapping),
            (Numbers{4, 5, 6, 7, 8, 50, 51, -1, -1, -1, -1, -1, -1, -1, -1, -1}));
  EXPECT_EQ(numbers(plan_, field::state_write_slots),
            (Numbers{-1, -1, -1, -1, 1, -1, 2, -1, -1, -1, -1, -1, -1, -1, -1, -1}));
  EXPECT_EQ(plan_.scalar(field::phase), static_cast<int32_t>(Phase::kPrefill));
  EXPECT_EQ(plan_.scalar(field::uniform_query_len), RowCount(0));
  EXPECT_EQ(plan_.scalar(field::max_query_len), RowCount(5));
}

TEST_F(Builder, PadsADecodeStepByPagesWhereTheBucketHasFewSequences) {
  expect_plan({sequence(1, 2, 1)}, 9, 3, 1);

  EXPECT_EQ(numbers(plan_, field::query_start_loc), (Numbers{0, 1, 5, 9}));
  EXPECT_EQ(plan_.scalar(field::phase), static_cast<int32_t>(Phase::kDecode));
  EXPECT_EQ(plan_.scalar(field::uniform_query_len), RowCount(0));
}

TEST_F(Builder, GivesASequenceWithoutRowsALengthAndNothingElse) {
  expect_plan({sequence(1, 7, 0), sequence(2, 0, 3)}, 3, 4, 1);

  EXPECT_EQ(numbers(plan_, field::query_start_loc), (Numbers{0, 0, 3, 3, 3}));
  EXPECT_EQ(numbers(plan_, field::seq_lens), (Numbers{7, 3, 0, 0}));
  EXPECT_EQ(numbers(plan_, field::logits_rows), (Numbers{2}));
  EXPECT_EQ(plan_.scalar(field::uniform_query_len), RowCount(3));
}

TEST_F(Builder, BuildsAStepOfPadRowsAlone) {
  expect_plan({}, 6, 2, 1);

  EXPECT_EQ(numbers(plan_, field::query_start_loc), (Numbers{0, 4, 6}));
  EXPECT_EQ(plan_.scalar(field::phase), static_cast<int32_t>(Phase::kIdle));
  EXPECT_EQ(plan_.scalar(field::num_rows), LiveRows(0));
  EXPECT_EQ(numbers(plan_, field::dp_row_counts), (Numbers{6}));
}

TEST_F(Builder, HoldsBothHalvesOfEachSequenceTheLongerOneFirst) {
  expect_plan({sequence(1, 3, 5), sequence(2, 0, 1), sequence(3, 2, 2)}, 8, 3, 3);

  const auto segments = plan_.get(field::cp_segments);
  EXPECT_EQ(segments[0], (CpSegments{{Position(3), RowCount(3)}, {Position(6), RowCount(2)}}));
  EXPECT_EQ(segments[1], (CpSegments{{Position(0), RowCount(1)}, {Position(1), RowCount(0)}}));
  EXPECT_EQ(segments[2], (CpSegments{{Position(2), RowCount(1)}, {Position(3), RowCount(1)}}));
}

TEST_F(Builder, NamesTheSourceStepWhereATokenComesFromItAndNowhereElse) {
  expect_plan({sequence(1, 0, 2)}, 2, 1, 1);
  SequenceStep step = share(1, 2, 1);
  step.last_token_source = TokenSource(0);
  const std::vector<SequenceStep> steps = {step};
  StepRequest request{.epoch = Epoch(2),
                      .source_epoch = Epoch(1),
                      .sequences = steps,
                      .bucket = {PaddedRows(1), PaddedSeqs(1), PaddedRows(1)}};

  ASSERT_TRUE(builder_.build(request, plan_).ok());
  EXPECT_EQ(plan_.get(field::token_source)[0], TokenSource(0));
  EXPECT_EQ(plan_.scalar(field::source_epoch), Epoch(1));
  EXPECT_EQ(validator_.validate(plan_).message(), "");

  const std::vector<SequenceStep> literal = {share(1, 3, 1)};
  request.sequences = literal;
  ASSERT_TRUE(builder_.build(request, plan_).ok());
  EXPECT_EQ(plan_.scalar(field::source_epoch), Epoch(0));
}

// The numbers of a field report: after padding, one rank had 30 rows on both sides, the other said 30 and
// had 26.
TEST_F(Builder, KeepsThirtyRowsApartFromTwentySixThatArePadded) {
  const auto sequences = [this](std::initializer_list<int32_t> lengths) {
    std::vector<SequenceStep> steps;
    for (const int32_t length : lengths)
      steps.push_back(sequence(static_cast<int32_t>(steps.size()) + 1, 0, length));
    return steps;
  };
  expect_plan(sequences({7, 5, 11, 7}), 30, 4, 4);
  EXPECT_EQ(numbers(plan_, field::query_start_loc), (Numbers{0, 7, 12, 23, 30}));

  for (int32_t row = 1; row <= 4; ++row) tables_.clear(TableRow(row));
  expect_plan(sequences({5, 5, 8, 8}), 30, 5, 4);
  EXPECT_EQ(numbers(plan_, field::query_start_loc), (Numbers{0, 5, 10, 18, 26, 30}));
  EXPECT_EQ(plan_.scalar(field::num_rows), LiveRows(26));

  plan_.edit(field::epoch)[0] = Epoch(9);
  plan_.edit(field::num_rows)[0] = LiveRows(30);
  EXPECT_EQ(
      validator_.validate(plan_).message(),
      "plan 9: P1 query_start_loc[4] is 26, so rows 26..29 belong to no sequence; expected num_rows = 30");
}

// The report's own shape: no pad sequence anywhere, offsets that end at 26, and a count that says 30.
TEST_F(Builder, RefusesOffsetsThatEndBeforeTheRowsOfTheBucket) {
  expect_plan({sequence(1, 0, 7), sequence(2, 0, 5), sequence(3, 0, 11), sequence(4, 0, 7)}, 30, 4, 4);
  const int32_t offsets[] = {0, 5, 10, 18, 26};
  for (size_t s = 0; s < 5; ++s) plan_.edit(field::query_start_loc)[s] = RowOffset(offsets[s]);
  plan_.edit(field::epoch)[0] = Epoch(9);

  EXPECT_EQ(
      validator_.validate(plan_).message(),
      "plan 9: P1 query_start_loc[4] is 26, so rows 26..29 belong to no sequence; expected num_rows = 30");
}

TEST_F(Builder, NamesBucketsThatTheLimitsDoNotHold) {
  EXPECT_EQ(build({}, 33, 8, 8).message(),
            "plan 1: bucket of 33 rows, 8 sequences and 8 logits rows; expected at most 32, 8 and 8");
  EXPECT_EQ(build({}, -1, 8, 8).message(),
            "plan 2: bucket of -1 rows, 8 sequences and 8 logits rows; expected at most 32, 8 and 8");
}

TEST_F(Builder, NamesRequestsThatTheBucketDoesNotHold) {
  const std::vector<SequenceStep> steps = {sequence(1, 0, 3), sequence(2, 0, 4)};

  EXPECT_EQ(build(steps, 6, 4, 2).message(),
            "plan 1: 2 sequences of 7 rows with 2 logits rows; expected them, padded, to fit the "
            "bucket of 6 rows, 4 sequences and 2 logits rows");
  EXPECT_EQ(build(steps, 7, 1, 2).message(),
            "plan 2: 2 sequences of 7 rows with 2 logits rows; expected them, padded, to fit the "
            "bucket of 7 rows, 1 sequences and 2 logits rows");
  EXPECT_EQ(build(steps, 16, 4, 2).message(),
            "plan 3: 2 sequences of 7 rows with 2 logits rows; expected them, padded, to fit the "
            "bucket of 16 rows, 4 sequences and 2 logits rows");
  EXPECT_EQ(build(steps, 7, 2, 1).message(),
            "plan 4: 2 sequences of 7 rows with 2 logits rows; expected them, padded, to fit the "
            "bucket of 7 rows, 2 sequences and 1 logits rows");
}

TEST_F(Builder, NamesSequencesThatTheTablesCannotServe) {
  std::vector<SequenceStep> steps = {sequence(1, 0, 3)};
  steps[0].computed = TokenCount(2);
  EXPECT_EQ(build(steps, 3, 1, 1).message(),
            "plan 1: sequence 0 of 5 tokens holds 1 of 2 pages in table row 1 of group 0; expected a table "
            "row of 1..6 that holds them all");

  steps[0].computed = TokenCount(38);
  EXPECT_EQ(build(steps, 3, 1, 1).message(),
            "plan 2: sequence 0 has 3 rows after 38 computed tokens; expected at most 40 tokens");
  steps[0].computed = TokenCount(-1);
  EXPECT_EQ(build(steps, 3, 1, 1).message(),
            "plan 3: sequence 0 has 3 rows after -1 computed tokens; expected at most 40 tokens");

  steps[0].computed = TokenCount(0);
  steps[0].table_rows[0] = TableRow(0);
  EXPECT_EQ(build(steps, 3, 1, 1).message(),
            "plan 4: sequence 0 of 3 tokens holds 0 of 1 pages in table row 0 of group 0; expected a table "
            "row of 1..6 that holds them all");
  steps[0].table_rows[0] = TableRow(7);
  EXPECT_EQ(build(steps, 3, 1, 1).message(),
            "plan 5: sequence 0 of 3 tokens holds 0 of 1 pages in table row 7 of group 0; expected a table "
            "row of 1..6 that holds them all");

  steps[0] = share(1, 3, 0);
  steps[0].wants_logits = true;
  EXPECT_EQ(build(steps, 3, 1, 1).message(),
            "plan 6: sequence 0 wants logits of no rows; expected a row whose logits they are");
}

TEST_F(Builder, KeepsEditsPendingUntilTheirPlanIsAccepted) {
  expect_plan({sequence(2, 0, 3)}, 3, 1, 1);
  const StepPlan before = plan_;
  const std::vector<SequenceStep> steps = {sequence(1, 0, 9)};
  EXPECT_FALSE(build(steps, 8, 1, 1).ok());
  const std::vector<PageCopy> copies(3, {PageId(1), PageId(2)});
  StepRequest request{
      .epoch = Epoch(7), .sequences = steps, .bucket = {PaddedRows(9), PaddedSeqs(1), PaddedRows(1)}};
  request.copies[0] = copies;
  EXPECT_EQ(builder_.build(request, plan_).message(),
            "plan 7: group 0 has 3 table edits and 3 copies; expected at most 64 and 2");
  EXPECT_EQ(tables_.pending_edits().size(), 3u);
  EXPECT_TRUE(
      std::equal(before.image().begin(), before.image().end(), plan_.image().begin(), plan_.image().end()));

  request.copies[0] = {};
  ASSERT_TRUE(builder_.build(request, plan_).ok());

  EXPECT_EQ(plan_.scalar(field::num_table_edits), 3);
  EXPECT_EQ(tables_.pending_edits().size(), 3u);
  builder_.accepted();
  EXPECT_TRUE(tables_.pending_edits().empty());
}

// The first plan carries the pad row's entry besides those of its sequences; a second try needs it too.
TEST_F(Builder, LosesNoEditWhenTheFirstPlanIsRefused) {
  const std::vector<SequenceStep> steps = {share(1, 0, 3)};
  const StepRequest request{
      .epoch = Epoch(1), .sequences = steps, .bucket = {PaddedRows(4), PaddedSeqs(2), PaddedRows(1)}};
  ASSERT_TRUE(builder_.build(request, plan_).ok());
  plan_.edit(field::seq_lens)[0] = TokenCount(4);
  EXPECT_EQ(validator_.validate(plan_).message(),
            "plan 1: P2 seq_lens[0] is 4; expected 3 = computed 0 + rows 3");

  ASSERT_TRUE(builder_.build(request, plan_).ok());

  EXPECT_EQ(plan_.scalar(field::num_table_edits), 2);
  EXPECT_EQ(validator_.validate(plan_).message(), "");
}

}  // namespace
}  // namespace lockstep
