#include "schedule/scheduler.h"

#include <gtest/gtest.h>

#include "schedule/test_support.h"

namespace lockstep {
namespace {

// What a device would answer: a token for every row that wants one.
StepResult answer(const Batch& batch, Epoch epoch, int32_t token = 7) {
  StepResult result{.epoch = epoch};
  for (const SequenceStep& step : batch.steps) {
    if (step.wants_logits) result.tokens.emplace_back(token);
  }
  return result;
}

TEST(Scheduler, CutsAPromptIntoChunksAndThenDrawsTokenByToken) {
  Scheduler scheduler(options_with(true));
  Sequence sequence = sequence_of(19);
  ASSERT_TRUE(scheduler.add(sequence, 30).ok());
  std::vector<int32_t> rows;
  std::vector<bool> draws;
  for (uint64_t epoch = 1; epoch <= 5; ++epoch) {
    const Batch& batch = scheduler.next(Epoch(epoch));
    ASSERT_EQ(batch.steps.size(), 1u);
    rows.push_back(static_cast<int32_t>(batch.steps[0].tokens.size()));
    draws.push_back(batch.steps[0].wants_logits);
    scheduler.commit(batch, answer(batch, Epoch(epoch)));
  }

  EXPECT_EQ(rows, (std::vector<int32_t>{8, 8, 3, 1, 1}));
  EXPECT_EQ(draws, (std::vector<bool>{false, false, true, true, true}));
  EXPECT_EQ(sequence.length(), 22);
  EXPECT_EQ(sequence.computed, 21);
  EXPECT_EQ(scheduler.pages_used(), PageCount(6));
}

// The device still holds the token that the step before has drawn; an older one is passed as a number.
TEST(Scheduler, TakesATokenFromTheDeviceOnlyRightAfterItWasDrawn) {
  Scheduler scheduler(options_with(false));
  Sequence first = sequence_of(2, 1), second = sequence_of(3, 2);
  ASSERT_TRUE(scheduler.add(first, 10).ok());
  ASSERT_TRUE(scheduler.add(second, 10).ok());
  const Batch& drawn = scheduler.next(Epoch(4));
  scheduler.commit(drawn, answer(drawn, Epoch(4)));

  const Batch right_after = scheduler.next(Epoch(5));
  const Batch later = scheduler.next(Epoch(6));

  EXPECT_EQ(right_after.source_epoch, Epoch(4));
  EXPECT_EQ(right_after.steps[0].last_token_source, TokenSource(0));
  EXPECT_EQ(right_after.steps[1].last_token_source, TokenSource(1));
  EXPECT_TRUE(later.steps[0].last_token_source.is_literal());
}

// What is forced is not what the device holds, so it is passed as a number.
TEST(Scheduler, TakesForcedTokensInsteadOfDrawnOnes) {
  Scheduler scheduler(options_with(false));
  Sequence sequence = sequence_of(2, 1);
  sequence.forced = {TokenId(41), TokenId(42)};
  ASSERT_TRUE(scheduler.add(sequence, 10).ok());
  std::vector<bool> literal;
  for (uint64_t epoch = 1; epoch <= 4; ++epoch) {
    const Batch& batch = scheduler.next(Epoch(epoch));
    literal.push_back(batch.steps[0].last_token_source.is_literal());
    scheduler.commit(batch, answer(batch, Epoch(epoch), 7));
  }

  EXPECT_EQ(std::vector<TokenId>(sequence.tokens.end() - 4, sequence.tokens.end()),
            (std::vector<TokenId>{TokenId(41), TokenId(42), TokenId(7), TokenId(7)}));
  EXPECT_EQ(literal, (std::vector<bool>{true, true, true, false}));
}

TEST(Scheduler, PadsADecodeStepToTheNextBucketAndNothingElse) {
  SchedulerOptions options = options_with(false);
  options.decode_buckets = {2, 4};
  Scheduler scheduler(options);
  Sequence sequences[3] = {sequence_of(2, 1), sequence_of(2, 2), sequence_of(2, 3)};
  for (Sequence& sequence : sequences) ASSERT_TRUE(scheduler.add(sequence, 10).ok());

  const Batch& prefill = scheduler.next(Epoch(1));
  EXPECT_EQ(prefill.bucket,
            (Bucket{.rows = PaddedRows(6), .seqs = PaddedSeqs(3), .logits_rows = PaddedRows(3)}));
  scheduler.commit(prefill, answer(prefill, Epoch(1)));
  const Batch& decode = scheduler.next(Epoch(2));
  EXPECT_EQ(decode.bucket,
            (Bucket{.rows = PaddedRows(4), .seqs = PaddedSeqs(4), .logits_rows = PaddedRows(4)}));
  // Where another replica does not decode: never the shape of a decode step, which has a graph.
  EXPECT_EQ(scheduler.bucket_for(decode, 3, false),
            (Bucket{.rows = PaddedRows(3), .seqs = PaddedSeqs(4), .logits_rows = PaddedRows(3)}));
  EXPECT_EQ(scheduler.bucket_for(decode, 9, false),
            (Bucket{.rows = PaddedRows(9), .seqs = PaddedSeqs(5), .logits_rows = PaddedRows(3)}));
}

TEST(Scheduler, RefusesASequenceThatThePoolCanNeverHold) {
  Scheduler scheduler(options_with(false));
  Sequence fits = sequence_of(4, 1), large = sequence_of(4, 2);

  EXPECT_TRUE(scheduler.add(fits, 64).ok());
  const Status status = scheduler.add(large, 65);

  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_EQ(
      status.message(),
      "request: 65 tokens need 17 pages of 4 tokens; expected at most the 16 of the pool; shorten it or "
      "raise --num-pages");
  EXPECT_EQ(scheduler.waiting_or_running(), 1u);
}

TEST(Scheduler, GivesEverythingBackWhenASequenceIsRemovedInAnyPhase) {
  for (const int steps : {0, 1, 2, 3, 4}) {
    Scheduler scheduler(options_with(true));
    Sequence sequence = sequence_of(12);
    sequence.has_penalties = true;
    ASSERT_TRUE(scheduler.add(sequence, 30).ok());
    EXPECT_FALSE(scheduler.idle());
    for (int i = 1; i <= steps; ++i) {
      const Batch& batch = scheduler.next(Epoch(i));
      scheduler.commit(batch, answer(batch, Epoch(i)));
    }

    scheduler.remove(sequence);

    EXPECT_TRUE(scheduler.idle()) << "after " << steps << " steps";
    EXPECT_LE(scheduler.page_tables(kPages)->pending_edits().size(), 1u) << "but for the pad row's own entry";
    EXPECT_TRUE(scheduler.next(Epoch(99)).empty());
  }
}

// A step that fails has no result, but it has ended.
TEST(Scheduler, KeepsPagesOfARemovedSequenceUntilItsStepHasEnded) {
  Scheduler scheduler(options_with(true));
  Sequence sequence = sequence_of(5);
  ASSERT_TRUE(scheduler.add(sequence, 30).ok());
  EXPECT_FALSE(scheduler.next(Epoch(1)).empty());

  scheduler.remove(sequence);

  EXPECT_EQ(scheduler.check_idle().message(),
            "P3 pages[1] is read by a step that has not ended; expected nobody's, as no sequence is left");
  scheduler.step_ended(Epoch(1));
  EXPECT_TRUE(scheduler.idle());
}

TEST(Scheduler, NamesWhatIsHeldWhenItShouldBeIdle) {
  Scheduler scheduler(options_with(true));
  Sequence sequence = sequence_of(5);
  ASSERT_TRUE(scheduler.add(sequence, 30).ok());

  EXPECT_EQ(scheduler.check_idle().message(),
            "scheduler: 1 sequences hold 0 table rows, 0 states and 0 penalty slots; expected none where no "
            "request is left");
}

TEST(Scheduler, APreemptedSequenceHoldsNothingAndBeginsAnew) {
  SchedulerOptions options = options_with(true);
  options.limits.groups[0].num_pages = 7;  // six pages: 24 tokens
  options.limits.max_seq_len = 24;
  options.limits.groups[0].max_pages_per_seq = 6;
  Scheduler scheduler(options);
  Sequence first = sequence_of(8, 1), second = sequence_of(8, 2);
  second.has_penalties = true;
  ASSERT_TRUE(scheduler.add(first, 24).ok());
  ASSERT_TRUE(scheduler.add(second, 24).ok());
  uint64_t epoch = 1;
  while (scheduler.preemptions() == 0) {
    ASSERT_LT(epoch, 20u);
    const Batch& batch = scheduler.next(Epoch(epoch));
    scheduler.commit(batch, answer(batch, Epoch(epoch++)));
  }

  EXPECT_EQ(second.preemptions, 1);
  EXPECT_EQ(first.preemptions, 0);
  EXPECT_FALSE(second.running);
  EXPECT_TRUE(second.pages.empty());
  EXPECT_EQ(second.computed, 0);
  EXPECT_EQ(second.table_row, TableRow(0));
  EXPECT_EQ(second.state_slot, StateSlot(0));
  EXPECT_EQ(second.penalty_slot, PenaltySlot(-1));
  EXPECT_GT(second.length(), 8);  // what was drawn stays
  EXPECT_EQ(scheduler.pages_used(), PageCount(first.held_pages()));
  scheduler.remove(first);
  const Batch& again = scheduler.next(Epoch(epoch));
  ASSERT_EQ(again.sequences, (std::vector<Sequence*>{&second}));
  EXPECT_EQ(again.steps[0].computed, TokenCount(0));
}

}  // namespace
}  // namespace lockstep
