// Random lives of sequences against a naive model.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <set>

#include "base/math.h"
#include "plan/validate.h"
#include "schedule/test_support.h"

namespace lockstep {
namespace {

class Life {
 public:
  // `overlapped`: each step is planned while the one before is under way, where that can be.
  Life(uint64_t seed, bool overlapped)
      : overlapped_(overlapped),
        random_(seed),
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
    if (ahead_.batch != nullptr) scheduler_.step_ended(ahead_.epoch);
    EXPECT_TRUE(scheduler_.idle());
    EXPECT_EQ(scheduler_.pages_used(), PageCount(0));
    preemptions_ = scheduler_.preemptions();
  }
  int64_t preemptions() const { return preemptions_; }
  int64_t steps_ahead() const { return steps_ahead_; }

 private:
  struct Begun {
    const Batch* batch = nullptr;  // null: nothing
    Epoch epoch;
  };
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
    if (limits.num_groups == 2 && chance(0.5)) {  // a second paged group, of its own pool
      limits.groups[2] = pages;
      limits.groups[2].num_pages = pages.max_pages_per_seq + 1 + pick(0, 2 * pages.max_pages_per_seq);
      limits.num_groups = 3;
    }
    limits.penalty_slots = options.max_running + 1;
    limits.max_edits = limits.max_rows + 2 * options.max_running + 1;
    if (chance(0.5) && options.max_rows >= 8) options.decode_buckets = {2, 5, 8};
    return options;
  }
  std::vector<PageTables*> tables() {
    std::vector<PageTables*> tables(static_cast<size_t>(options_.limits.num_groups), nullptr);
    for (int32_t g = 0; g < options_.limits.num_groups; ++g)
      tables[static_cast<size_t>(g)] = scheduler_.page_tables(GroupId(g));
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
    live->sequence.longest = live->end;
    ASSERT_TRUE(scheduler_.add(live->sequence, live->end - 1).ok());
    live_.push_back(std::move(live));
  }
  void leave(int32_t i) {
    scheduler_.remove(live_[static_cast<size_t>(i)]->sequence);
    live_.erase(live_.begin() + i);
  }

  void step() {
    Begun now = std::exchange(ahead_, {});
    if (now.batch == nullptr) {
      now = begin(false);
      EXPECT_EQ(now.batch->empty(), live_.empty()) << "somebody always runs";
      if (now.batch->empty()) return;
    }
    if (overlapped_) ahead_ = begin(true);
    if (testing::Test::HasFatalFailure()) return;
    commit(*now.batch, now.epoch);
  }

  // Of nothing where no sequence goes on, or only at the cost of another.
  Begun begin(bool ahead) {
    const Epoch epoch(epoch_ + 1);
    std::map<const Sequence*, int32_t> computed;
    for (const auto& live : live_) computed[&live->sequence] = live->sequence.computed;
    const int64_t preemptions = scheduler_.preemptions();
    const Batch* batch = ahead ? scheduler_.next_ahead(epoch) : &scheduler_.next(epoch);
    if (ahead) {
      EXPECT_EQ(scheduler_.preemptions(), preemptions);
      if (batch == nullptr || batch->empty()) return {};
      ++steps_ahead_;
    }
    ++epoch_;
    take(*batch, epoch, computed);
    return {.batch = batch, .epoch = epoch};
  }

  void take(const Batch& batch, Epoch epoch, const std::map<const Sequence*, int32_t>& computed) {
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
    scheduler_.begun(batch, epoch);
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
    std::set<std::pair<size_t, PageId>> pages;
    std::set<TableRow> rows;
    std::set<StateSlot> states;
    std::set<PenaltySlot> penalties;
    int32_t running = 0, held = 0;
    bool waited = false;
    for (const auto& live : live_) {
      const Sequence& s = live->sequence;
      EXPECT_FALSE(waited && s.running) << s.id << " runs while an older one waits";
      waited = waited || !s.running;
      held += s.held_pages();
      if (!s.running) {
        EXPECT_TRUE(s.pages.empty() && s.computed == 0 && s.table_row == TableRow(0));
        EXPECT_TRUE(s.state_slot == StateSlot(0) && s.penalty_slot == PenaltySlot(-1));
        continue;
      }
      ++running;
      EXPECT_TRUE(rows.insert(s.table_row).second && s.table_row.get() > 0);
      for (size_t i = 0; i < s.pages.size(); ++i) {
        EXPECT_EQ(s.pages[i].size(), s.pages[0].size());
        for (const PageId page : s.pages[i]) EXPECT_TRUE(pages.insert({i, page}).second && page.get() > 0);
      }
      if (options_.limits.num_groups >= 2) {
        EXPECT_TRUE(states.insert(s.state_slot).second && s.state_slot.get() > 0);
      }
      if (s.has_penalties) {
        EXPECT_TRUE(penalties.insert(s.penalty_slot).second && s.penalty_slot.get() >= 0);
      }
    }
    EXPECT_LE(running, options_.max_running);
    // A step under way may use what nobody holds any more.
    EXPECT_GE(scheduler_.pages_used(), PageCount(held));
    if (!overlapped_) {
      EXPECT_EQ(scheduler_.pages_used(), PageCount(held));
    }
  }

  // A device that knows the edits alone finds every page of every sequence that runs in the step.
  void mirror_edits(const Batch& batch) {
    std::vector<GroupId> groups = {kPages};
    if (options_.limits.num_groups == 3) groups.emplace_back(2);
    for (size_t g = 0; g < groups.size(); ++g) mirror_edits_of(batch, groups[g], g);
  }
  void mirror_edits_of(const Batch& batch, GroupId group, size_t which) {
    std::map<std::pair<int32_t, int32_t>, PageId>& mirror = mirrors_[which];
    for (const TableEdit& edit : scheduler_.page_tables(group)->pending_edits())
      mirror[{edit.row.get(), edit.index}] = edit.page;
    const int32_t page_tokens = options_.limits.groups[0].page_tokens;
    for (size_t i = 0; i < batch.steps.size(); ++i) {
      const Sequence& sequence = *batch.sequences[i];
      const int32_t tokens = sequence.computed + static_cast<int32_t>(batch.steps[i].tokens.size());
      const std::vector<PageId>& pages = sequence.pages[which];
      ASSERT_EQ(pages.size(), static_cast<size_t>(ceil_div(tokens, page_tokens)));
      for (int32_t page = 0; page < static_cast<int32_t>(pages.size()); ++page) {
        EXPECT_EQ((mirror[{sequence.table_row.get(), page}]), pages[static_cast<size_t>(page)]);
      }
    }
  }

  void commit(const Batch& batch, Epoch epoch) {
    StepResult result{.epoch = epoch};
    struct Drawn {
      Sequence* sequence;  // null: it has left
      size_t at;           // of its tokens
      TokenId token;
    };
    std::vector<Drawn> drawn;
    for (size_t i = 0; i < batch.steps.size(); ++i) {
      const SequenceStep& step = batch.steps[i];
      if (!step.wants_logits) continue;
      const int32_t at = step.computed.get() + rows_of(step);
      drawn.push_back({batch.sequences[i], static_cast<size_t>(at), TokenId(pick(0, 49))});
      result.tokens.push_back(drawn.back().token);
    }
    scheduler_.ended(batch, result);
    for (size_t row = 0; row < drawn.size(); ++row) {
      const auto& [sequence, at, token] = drawn[row];
      if (sequence == nullptr) continue;
      EXPECT_EQ(sequence->tokens[at], token);
      if (overlapped_) continue;
      EXPECT_EQ(sequence->pending(), 1);
      EXPECT_EQ(sequence->sampled_row, static_cast<int32_t>(row));
    }
    for (size_t i = live_.size(); i-- > 0;) {
      const Sequence* sequence = &live_[i]->sequence;
      const bool drew = std::any_of(drawn.begin(), drawn.end(),
                                    [sequence](const Drawn& each) { return each.sequence == sequence; });
      if (drew && sequence->length() >= live_[i]->end) leave(static_cast<int32_t>(i));
    }
  }

  bool overlapped_;
  std::mt19937_64 random_;
  SchedulerOptions options_;
  Scheduler scheduler_;
  PlanBuilder builder_;
  PlanValidator validator_;
  StepPlan plan_;
  std::vector<std::unique_ptr<Live>> live_;
  std::array<std::map<std::pair<int32_t, int32_t>, PageId>, 2> mirrors_;  // of paged groups: table row, index
  uint64_t last_id_ = 0, epoch_ = 0;
  int64_t preemptions_ = 0;
  int64_t steps_ahead_ = 0;
  Begun ahead_;
};

TEST(Scheduler, LivesThroughRandomRequestsAsANaiveModelSays) {
  int64_t preemptions = 0;
  for (uint64_t seed = 1; seed <= 150 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(concat("seed ", seed));
    Life life(seed, false);
    life.run(30);
    preemptions += life.preemptions();
  }
  EXPECT_GT(preemptions, 100);
}

TEST(Scheduler, LivesThroughThemWhilePlanningAheadOfStepsUnderWay) {
  int64_t preemptions = 0, ahead = 0;
  for (uint64_t seed = 1; seed <= 150 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(concat("seed ", seed));
    Life life(seed, true);
    life.run(30);
    preemptions += life.preemptions();
    ahead += life.steps_ahead();
  }
  EXPECT_GT(preemptions, 100);
  EXPECT_GT(ahead, 1000);
}

}  // namespace
}  // namespace lockstep
