#include "schedule/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <set>

#include "base/math.h"
#include "plan/validate.h"

namespace lockstep {
namespace {

constexpr GroupId kPages(0), kStates(1);

SchedulerOptions options_with(bool states) {
  SchedulerOptions options{.kv_group = kPages, .state_group = kStates};
  options.max_running = 4;
  options.max_rows = 16;
  options.chunk_size = 8;
  StepLimits& limits = options.limits;
  limits = {.max_rows = 16,
            .max_seqs = 8,
            .max_logits_rows = 8,
            .max_seq_len = 64,
            .max_edits = 64,
            .max_copies = 0,
            .vocab_size = 50,
            .penalty_slots = 5,
            .num_groups = states ? 2 : 1};
  limits.groups[0] = {.kind = GroupKind::kPaged,
                      .page_tokens = 4,
                      .kernel_page_tokens = 4,
                      .num_pages = 17,
                      .table_rows = 5,
                      .max_pages_per_seq = 16};
  if (states) limits.groups[1] = {.kind = GroupKind::kState, .num_pages = 5};
  return options;
}

Sequence sequence_of(int32_t prompt, uint64_t id = 1) {
  Sequence sequence{.id = id, .prompt_len = prompt};
  for (int32_t i = 0; i < prompt; ++i) sequence.tokens.emplace_back(i % 50);
  return sequence;
}

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
    EXPECT_LE(scheduler.page_tables().pending_edits().size(), 1u) << "but for the pad row's own entry";
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
  EXPECT_EQ(scheduler.pages_used(), PageCount(static_cast<int32_t>(first.pages.size())));
  scheduler.remove(first);
  const Batch& again = scheduler.next(Epoch(epoch));
  ASSERT_EQ(again.sequences, (std::vector<Sequence*>{&second}));
  EXPECT_EQ(again.steps[0].computed, TokenCount(0));
}

// --- random lives against a naive model --------------------------------------------------------------------

class Life {
 public:
  explicit Life(uint64_t seed)
      : random_(seed),
        options_(random_options()),
        scheduler_(options_),
        builder_(options_.limits, tables()),
        validator_(options_.limits) {}

  void run(int64_t requests) {
    int64_t steps = 0;
    for (; (requests > 0 || !live_.empty()) && !testing::Test::HasFailure(); ++steps) {
      ASSERT_LT(steps, 20000) << "requests do not end";
      while (requests > 0 && chance(0.3)) {
        arrive();
        --requests;
      }
      if (!live_.empty() && chance(0.02)) leave(pick(0, static_cast<int32_t>(live_.size()) - 1));
      step();
    }
    EXPECT_TRUE(scheduler_.idle());
    EXPECT_EQ(scheduler_.pages_used(), PageCount(0));
    preemptions_ = scheduler_.preemptions();
  }
  int64_t preemptions() const { return preemptions_; }

 private:
  struct Live {
    Sequence sequence;
    int32_t end = 0;  // tokens after which it ends
  };

  int32_t pick(int32_t least, int32_t most) {
    return std::uniform_int_distribution<int32_t>(least, most)(random_);
  }
  bool chance(double probability) { return std::bernoulli_distribution(probability)(random_); }

  SchedulerOptions random_options() {
    SchedulerOptions options = options_with(chance(0.5));
    StepLimits& limits = options.limits;
    options.max_rows = limits.max_rows = pick(4, 40);
    options.chunk_size = pick(1, options.max_rows);
    options.max_running = pick(1, std::min(8, options.max_rows));
    limits.max_seqs = limits.max_logits_rows = std::max(options.max_running, 8);
    limits.max_seq_len = pick(8, 60);
    CacheGroup& pages = limits.groups[0];
    pages.page_tokens = pages.kernel_page_tokens = 1 << pick(0, 4);
    pages.max_pages_per_seq = ceil_div(limits.max_seq_len, pages.page_tokens);
    pages.num_pages = pages.max_pages_per_seq + 1 + pick(0, 2 * pages.max_pages_per_seq);
    pages.table_rows = options.max_running + 1;
    limits.groups[1].num_pages = limits.num_groups == 2 ? pick(2, options.max_running + 1) : 0;
    limits.penalty_slots = options.max_running + 1;
    limits.max_edits = limits.max_rows + 2 * options.max_running + 1;
    if (chance(0.5) && options.max_rows >= 8) options.decode_buckets = {2, 5, 8};
    return options;
  }
  std::vector<PageTables*> tables() {
    std::vector<PageTables*> tables(static_cast<size_t>(options_.limits.num_groups), nullptr);
    tables[0] = &scheduler_.page_tables();
    return tables;
  }

  void arrive() {
    auto live = std::make_unique<Live>();
    const int32_t longest = options_.limits.max_seq_len;
    const int32_t prompt = pick(1, longest);
    live->sequence = sequence_of(prompt, ++last_id_);
    live->sequence.has_penalties = chance(0.3);
    live->sequence.sampling.repetition_penalty = live->sequence.has_penalties ? 1.1f : 1.0f;
    live->end = std::min(longest + 1, prompt + pick(1, 30));
    ASSERT_TRUE(scheduler_.add(live->sequence, live->end - 1).ok());
    live_.push_back(std::move(live));
  }
  void leave(int32_t i) {
    scheduler_.remove(live_[static_cast<size_t>(i)]->sequence);
    live_.erase(live_.begin() + i);
  }

  void step() {
    const Epoch epoch(++epoch_);
    std::map<const Sequence*, int32_t> computed;
    for (const auto& live : live_) computed[&live->sequence] = live->sequence.computed;
    const Batch& batch = scheduler_.next(epoch);
    EXPECT_EQ(batch.empty(), live_.empty()) << "somebody always runs";
    check_batch(batch, computed);
    check_holdings();
    mirror_edits(batch);
    if (batch.empty()) return;
    const Status built = builder_.build({.epoch = epoch,
                                         .source_epoch = batch.source_epoch,
                                         .sequences = batch.steps,
                                         .bucket = batch.bucket},
                                        plan_);
    ASSERT_TRUE(built.ok()) << built.message();
    const Status valid = validator_.validate(plan_);
    ASSERT_TRUE(valid.ok()) << valid.message();
    builder_.accepted();
    commit(batch, epoch);
  }

  void check_batch(const Batch& batch, const std::map<const Sequence*, int32_t>& computed) {
    int32_t rows = 0;
    uint64_t before = 0;
    ASSERT_EQ(batch.steps.size(), batch.sequences.size());
    for (size_t i = 0; i < batch.steps.size(); ++i) {
      const Sequence& sequence = *batch.sequences[i];
      const SequenceStep& step = batch.steps[i];
      const auto own = static_cast<int32_t>(step.tokens.size());
      EXPECT_GT(sequence.id, before) << "order of arrival";
      before = sequence.id;
      EXPECT_EQ(step.computed.get(), computed.at(&sequence));
      EXPECT_EQ(
          own, next_share({.length = sequence.length(), .computed = sequence.computed}, options_.chunk_size));
      EXPECT_TRUE(
          std::equal(step.tokens.begin(), step.tokens.end(), sequence.tokens.begin() + sequence.computed));
      EXPECT_EQ(step.wants_logits, sequence.computed + own == sequence.length());
      EXPECT_EQ(step.table_rows[0], sequence.table_row);
      EXPECT_EQ(step.penalty_slot.get() >= 0, sequence.has_penalties);
      rows += own;
    }
    EXPECT_LE(rows, options_.max_rows);
    EXPECT_GE(batch.bucket.rows.get(), rows);
  }

  // Whoever runs holds pages for what it has, and shares nothing; whoever waits holds nothing.
  void check_holdings() {
    std::set<PageId> pages;
    std::set<TableRow> rows;
    std::set<StateSlot> states;
    std::set<PenaltySlot> penalties;
    int32_t running = 0, held = 0;
    bool waited = false;
    for (const auto& live : live_) {
      const Sequence& s = live->sequence;
      EXPECT_FALSE(waited && s.running) << s.id << " runs while an older one waits";
      waited = waited || !s.running;
      held += static_cast<int32_t>(s.pages.size());
      if (!s.running) {
        EXPECT_TRUE(s.pages.empty() && s.computed == 0 && s.table_row == TableRow(0));
        EXPECT_TRUE(s.state_slot == StateSlot(0) && s.penalty_slot == PenaltySlot(-1));
        continue;
      }
      ++running;
      EXPECT_TRUE(rows.insert(s.table_row).second && s.table_row.get() > 0);
      for (const PageId page : s.pages) EXPECT_TRUE(pages.insert(page).second && page.get() > 0);
      if (options_.limits.num_groups == 2) {
        EXPECT_TRUE(states.insert(s.state_slot).second && s.state_slot.get() > 0);
      }
      if (s.has_penalties) {
        EXPECT_TRUE(penalties.insert(s.penalty_slot).second && s.penalty_slot.get() >= 0);
      }
    }
    EXPECT_LE(running, options_.max_running);
    EXPECT_EQ(scheduler_.pages_used(), PageCount(held));
  }

  // A device that knows the edits alone finds every page of every sequence that runs in the step.
  void mirror_edits(const Batch& batch) {
    for (const TableEdit& edit : scheduler_.page_tables().pending_edits())
      mirror_[{edit.row.get(), edit.index}] = edit.page;
    const int32_t page_tokens = options_.limits.groups[0].page_tokens;
    for (size_t i = 0; i < batch.steps.size(); ++i) {
      const Sequence& sequence = *batch.sequences[i];
      const int32_t tokens = sequence.computed + static_cast<int32_t>(batch.steps[i].tokens.size());
      ASSERT_EQ(sequence.pages.size(), static_cast<size_t>(ceil_div(tokens, page_tokens)));
      for (int32_t page = 0; page < static_cast<int32_t>(sequence.pages.size()); ++page) {
        EXPECT_EQ((mirror_[{sequence.table_row.get(), page}]), sequence.pages[static_cast<size_t>(page)]);
      }
    }
  }

  void commit(const Batch& batch, Epoch epoch) {
    StepResult result{.epoch = epoch};
    std::vector<std::pair<Sequence*, TokenId>> drawn;
    for (size_t i = 0; i < batch.steps.size(); ++i) {
      if (!batch.steps[i].wants_logits) continue;
      drawn.emplace_back(batch.sequences[i], TokenId(pick(0, 49)));
      result.tokens.push_back(drawn.back().second);
    }
    scheduler_.commit(batch, result);
    for (size_t row = 0; row < drawn.size(); ++row) {
      const auto& [sequence, token] = drawn[row];
      EXPECT_EQ(sequence->tokens.back(), token);
      EXPECT_EQ(sequence->pending(), 1);
      EXPECT_EQ(sequence->sampled_row, static_cast<int32_t>(row));
    }
    for (size_t i = live_.size(); i-- > 0;) {
      if (live_[i]->sequence.length() >= live_[i]->end) leave(static_cast<int32_t>(i));
    }
  }

  std::mt19937_64 random_;
  SchedulerOptions options_;
  Scheduler scheduler_;
  PlanBuilder builder_;
  PlanValidator validator_;
  StepPlan plan_;
  std::vector<std::unique_ptr<Live>> live_;
  std::map<std::pair<int32_t, int32_t>, PageId> mirror_;  // table row, index
  uint64_t last_id_ = 0, epoch_ = 0;
  int64_t preemptions_ = 0;
};

TEST(Scheduler, LivesThroughRandomRequestsAsANaiveModelSays) {
  int64_t preemptions = 0;
  for (uint64_t seed = 1; seed <= 150 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(concat("seed ", seed));
    Life life(seed);
    life.run(30);
    preemptions += life.preemptions();
  }
  EXPECT_GT(preemptions, 100);
}

}  // namespace
}  // namespace lockstep
