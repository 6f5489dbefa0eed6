// A random engine without a device, for tests: sequences arrive, are prefilled in chunks, decode, fork, are
// preempted and finish, with pages, table rows and state slots from free lists of its own. Every step becomes
// a request for the plan builder. The simulation knows what each plan has to say, from data of its own.
#pragma once

#include <algorithm>
#include <deque>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "plan/plan_builder.h"
#include "plan/validate/random_limits.h"

namespace lockstep {

class Simulation {
 public:
  // A sequence as the simulation remembers it.
  struct Sequence {
    std::vector<TokenId> tokens;  // the prompt and what was generated
    int32_t prompt_len = 0;
    int32_t computed = 0;
    int32_t rows = 0;         // of the step at hand
    int32_t logits_row = -1;  // of the step before, where its newest token was drawn
    std::array<TableRow, kMaxGroups> table_rows{};
    std::array<std::vector<PageId>, kMaxGroups> pages;
    StateSlot state;
    PenaltySlot penalty = PenaltySlot(-1);
    SamplingFacts sampling;
    bool wants_logits() const { return computed + rows == static_cast<int32_t>(tokens.size()); }
  };

  // With `cp_ranks` of more than one, prompts are cut among so many ranks.
  explicit Simulation(uint64_t seed, int32_t cp_ranks = 1) : random_(seed), limits_(random_limits(random_)) {
    limits_.cp_ranks = cp_ranks;
    for (int32_t g = 0; g < limits_.num_groups; ++g) {
      const CacheGroup& group = limits_.group(GroupId(g));
      const auto at = static_cast<size_t>(g);
      holders_[at].assign(static_cast<size_t>(group.num_pages), 0);
      if (group.kind != GroupKind::kPaged) continue;
      for (int32_t row = 1; row < group.table_rows; ++row) free_table_rows_[at].emplace_back(row);
      owned_tables_.push_back(std::make_unique<PageTables>(group.table_rows, group.max_pages_per_seq));
      tables_[at] = owned_tables_.back().get();
    }
    for (int32_t slot = 0; slot < limits_.penalty_slots; ++slot) free_penalties_.emplace_back(slot);
    builder_ =
        std::make_unique<PlanBuilder>(limits_, std::vector<PageTables*>(tables_.begin(), tables_.end()));
  }

  const StepLimits& limits() const { return limits_; }
  // The sequences of the step at hand, in the order of the plan.
  const std::vector<Sequence*>& scheduled() const { return scheduled_; }
  const std::vector<PageCopy>& copies(GroupId group) const { return copies_[index_of(group)]; }

  // Decides the next step and builds its plan, for one rank or another.
  Status next(StepPlan& plan) {
    return next({&plan, 1}, limits_.cp_ranks > 1 ? pick(0, limits_.cp_ranks - 1) : 0);
  }
  // For every rank.
  Status next(std::vector<StepPlan>& plans) {
    plans.resize(static_cast<size_t>(limits_.cp_ranks));
    return next(plans, 0);
  }

  // A number from [least, most].
  int32_t pick(int32_t least, int32_t most) {
    return std::uniform_int_distribution<int32_t>(least, most)(random_);
  }
  bool chance(double probability) { return std::bernoulli_distribution(probability)(random_); }

 private:
  Status next(std::span<StepPlan> plans, int32_t first_rank) {
    commit();
    arrive();
    schedule();
    std::vector<SequenceStep> steps;
    const int32_t sourced = add_steps(steps);
    StepRequest request{.epoch = Epoch(++epoch_),
                        .source_epoch = Epoch(sourced > 0 ? epoch_ - 1 : pick(0, 3)),
                        .sequences = steps,
                        .bucket = bucket_for(steps)};
    for (size_t g = 0; g < kMaxGroups; ++g) request.copies[g] = copies_[g];
    for (size_t i = 0; i < plans.size(); ++i) {
      request.cut = {limits_.cp_ranks, first_rank + static_cast<int32_t>(i)};
      LS_TRY(builder_->build(request, plans[i]));
    }
    builder_->accepted();
    return {};
  }

  static size_t index_of(GroupId group) { return static_cast<size_t>(group.get()); }
  bool paged(int32_t g) const { return limits_.group(GroupId(g)).kind == GroupKind::kPaged; }
  // What the step before has done becomes the past: tokens are computed, new ones drawn, sequences finish.
  void commit() {
    for (std::vector<PageCopy>& copies : copies_) copies.clear();
    for (const auto& [g, page] : borrowed_) release_page(g, page);
    borrowed_.clear();
    int32_t logits_row = 0;
    for (Sequence* sequence : scheduled_) {
      const bool draws = sequence->wants_logits() && sequence->rows > 0;
      sequence->computed += sequence->rows;
      sequence->rows = 0;
      sequence->logits_row = -1;
      if (!draws) continue;
      sequence->logits_row = logits_row++;
      sequence->tokens.emplace_back(pick(0, limits_.vocab_size - 1));
      if (static_cast<int32_t>(sequence->tokens.size()) > limits_.max_seq_len || chance(0.04))
        finish(sequence);
    }
    for (const auto& sequence : running_) {
      if (std::find(scheduled_.begin(), scheduled_.end(), sequence.get()) == scheduled_.end())
        sequence->logits_row = -1;
    }
    scheduled_.clear();
  }

  void arrive() {
    while (waiting_.size() < 3 && chance(0.5)) {
      auto sequence = std::make_unique<Sequence>();
      sequence->prompt_len = pick(1, limits_.max_seq_len);
      if (chance(0.5)) sequence->prompt_len = std::min(sequence->prompt_len, pick(1, 12));
      for (int32_t i = 0; i < sequence->prompt_len; ++i)
        sequence->tokens.emplace_back(pick(0, limits_.vocab_size - 1));
      if (chance(0.5)) sequence->sampling.temperature = 0.7f;
      if (chance(0.3)) sequence->sampling.top_p = 0.9f;
      if (chance(0.3)) sequence->sampling.logprobs = pick(0, 20);
      sequence->sampling.seed = random_();
      sequence->sampling.mask_slot = pick(-1, limits_.mask_slots - 1);
      waiting_.push_back(std::move(sequence));
    }
  }

  void schedule() {
    if (!running_.empty() && chance(0.05)) preempt(running_[pick_index(running_.size())].get());
    while (!waiting_.empty() && static_cast<int32_t>(running_.size()) < limits_.max_seqs && admit()) {
    }
    if (!running_.empty() && chance(0.1)) fork(*running_[pick_index(running_.size())]);
    std::shuffle(running_.begin(), running_.end(), random_);
    int32_t rows_left = limits_.max_rows, logits_left = limits_.max_logits_rows;
    const bool decode_only = chance(0.4);
    // A cut plan has two for each, and pads.
    const size_t most = static_cast<size_t>(limits_.max_seqs) / (limits_.cp_ranks > 1 ? 4 : 1);
    for (size_t i = 0; i < running_.size() && rows_left > 0 && scheduled_.size() < most; ++i) {
      Sequence& sequence = *running_[i];
      const int32_t missing = static_cast<int32_t>(sequence.tokens.size()) - sequence.computed;
      if (chance(0.1) || (decode_only && missing > 1)) continue;
      int32_t rows = chance(0.02) ? 0 : std::min({missing, rows_left, pick(1, 40)});
      if (rows == missing && logits_left == 0) --rows;
      sequence.rows = rows;
      if (!reserve(sequence)) {
        sequence.rows = 0;
        continue;
      }
      logits_left -= sequence.wants_logits() && rows > 0 ? 1 : 0;
      rows_left -= rows;
      scheduled_.push_back(&sequence);
    }
  }

  // Gives the first waiting sequence what it needs to run.
  bool admit() {
    Sequence& sequence = *waiting_.front();
    if (!take_rows_and_state(sequence)) return false;
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
    return true;
  }

  bool take_rows_and_state(Sequence& sequence) {
    for (int32_t g = 0; g < limits_.num_groups; ++g) {
      if (paged(g) ? free_table_rows_[static_cast<size_t>(g)].empty() : free_page(g) == PageId(0))
        return false;
    }
    for (int32_t g = 0; g < limits_.num_groups; ++g) {
      if (paged(g)) {
        sequence.table_rows[static_cast<size_t>(g)] = take(free_table_rows_[static_cast<size_t>(g)]);
      } else {
        sequence.state = StateSlot(take_page(g).get());
      }
    }
    if (!free_penalties_.empty() && chance(0.5)) {
      sequence.penalty = take(free_penalties_);
      if (chance(0.8)) sequence.sampling.repetition_penalty = 1.1f;
      if (chance(0.5)) sequence.sampling.presence_penalty = -0.5f;
    } else {
      sequence.sampling.repetition_penalty = 1.0f;
      sequence.sampling.presence_penalty = 0.0f;
    }
    return true;
  }

  // A second sequence goes on from where the first stands: whole pages are shared, the rest is copied.
  void fork(Sequence& parent) {
    const bool room = static_cast<int32_t>(running_.size()) < limits_.max_seqs && parent.computed > 0;
    for (int32_t g = 0; g < limits_.num_groups; ++g) {
      if (paged(g) && free_page(g) == PageId(0)) return;
    }
    auto child = std::make_unique<Sequence>(parent);
    child->penalty = PenaltySlot(-1);
    child->logits_row = -1;
    for (std::vector<PageId>& pages : child->pages) pages.clear();
    if (!room || !take_rows_and_state(*child)) return;
    child->tokens.resize(static_cast<size_t>(parent.computed));
    child->tokens.emplace_back(pick(0, limits_.vocab_size - 1));
    child->prompt_len = std::min(child->prompt_len, static_cast<int32_t>(child->tokens.size()));
    for (int32_t g = 0; g < limits_.num_groups; ++g) {
      const auto at = static_cast<size_t>(g);
      if (!paged(g)) {
        copies_[at].push_back({PageId(parent.state.get()), PageId(child->state.get())});
        continue;
      }
      const int32_t page_tokens = limits_.group(GroupId(g)).page_tokens;
      for (int32_t i = 0; i < parent.computed / page_tokens; ++i)
        hold(*child, g, parent.pages[at][static_cast<size_t>(i)]);
      if (parent.computed % page_tokens == 0) continue;
      hold(*child, g, free_page(g));
      copies_[at].push_back({parent.pages[at][child->pages[at].size() - 1], child->pages[at].back()});
    }
    running_.push_back(std::move(child));
  }

  // Pages for the rows of this step, now and then for those to come too.
  bool reserve(Sequence& sequence) {
    for (int32_t g = 0; g < limits_.num_groups; ++g) {
      if (!paged(g)) continue;
      const CacheGroup& group = limits_.group(GroupId(g));
      std::vector<PageId>& pages = sequence.pages[static_cast<size_t>(g)];
      const auto pages_for = [&](int32_t tokens) {
        return static_cast<size_t>((tokens + group.page_tokens - 1) / group.page_tokens);
      };
      const size_t needed = pages_for(sequence.computed + sequence.rows);
      const size_t ahead = chance(0.1) ? pages_for(static_cast<int32_t>(sequence.tokens.size())) : needed;
      while (pages.size() < std::max(needed, ahead) && free_page(g) != PageId(0))
        hold(sequence, g, free_page(g));
      if (pages.size() < needed) return false;
    }
    return true;
  }

  void preempt(Sequence* sequence) {
    release(*sequence);
    sequence->computed = 0;
    const auto at = std::find_if(running_.begin(), running_.end(),
                                 [&](const auto& each) { return each.get() == sequence; });
    waiting_.push_front(std::move(*at));
    running_.erase(at);
  }

  void finish(Sequence* sequence) {
    release(*sequence);
    std::erase_if(running_, [&](const auto& each) { return each.get() == sequence; });
  }

  void release(Sequence& sequence) {
    for (int32_t g = 0; g < limits_.num_groups; ++g) {
      const auto at = static_cast<size_t>(g);
      if (!paged(g)) {
        release_page(g, PageId(sequence.state.get()));
        continue;
      }
      for (const PageId page : sequence.pages[at]) release_page(g, page);
      sequence.pages[at].clear();
      tables_[at]->clear(sequence.table_rows[at]);
      free_table_rows_[at].push_back(sequence.table_rows[at]);
    }
    if (sequence.penalty != PenaltySlot(-1)) free_penalties_.push_back(sequence.penalty);
    sequence.penalty = PenaltySlot(-1);
    sequence.logits_row = -1;
  }

  int32_t add_steps(std::vector<SequenceStep>& steps) {
    int32_t sourced = 0;
    for (Sequence* sequence : scheduled_) {
      const std::span<const TokenId> all(sequence->tokens);
      SequenceStep step{
          .tokens = all.subspan(static_cast<size_t>(sequence->computed), static_cast<size_t>(sequence->rows)),
          .last_token_source = TokenSource::literal(),
          .computed = TokenCount(sequence->computed),
          .prompt_len = TokenCount(sequence->prompt_len),
          .table_rows = sequence->table_rows,
          .state_slot = sequence->state,
          .penalty_slot = sequence->penalty,
          .wants_logits = sequence->wants_logits() && sequence->rows > 0,
          .sampling = sequence->sampling};
      if (sequence->logits_row >= 0 && step.wants_logits && chance(0.5)) {
        step.last_token_source = TokenSource(sequence->logits_row);
        ++sourced;
      }
      steps.push_back(step);
    }
    add_checkpoint();
    return sourced;
  }

  // Keeps a state aside for one step, as a checkpoint would.
  void add_checkpoint() {
    for (int32_t g = 0; g < limits_.num_groups; ++g) {
      std::vector<PageCopy>& copies = copies_[static_cast<size_t>(g)];
      if (paged(g) || scheduled_.empty() || !copies.empty() || free_page(g) == PageId(0) || chance(0.7))
        continue;
      const Sequence& sequence = *scheduled_[pick_index(scheduled_.size())];
      borrowed_.emplace_back(g, take_page(g));
      copies.push_back({PageId(sequence.state.get()), borrowed_.back().second});
    }
  }

  // Any bucket that holds the step, and by luck more.
  Bucket bucket_for(const std::vector<SequenceStep>& steps) {
    const CpExtent extent = cp_extent(steps, limits_.cp_ranks);
    const auto rows = static_cast<int32_t>(extent.rows);
    int32_t logits_rows = 0;
    bool one_each = !cp_cuts(steps, limits_.cp_ranks);
    for (const SequenceStep& step : steps) {
      logits_rows += step.wants_logits ? 1 : 0;
      one_each = one_each && step.tokens.size() == 1;
    }
    int32_t per_pad = std::min(limits_.max_rows, limits_.max_seq_len);
    for (int32_t g = 0; g < limits_.num_groups; ++g)
      per_pad = std::min(per_pad, paged(g) ? limits_.group(GroupId(g)).page_tokens : per_pad);
    const auto seqs = static_cast<int32_t>(extent.seqs);
    const auto least = static_cast<int32_t>(extent.least_rows);
    const int32_t free_seqs = limits_.max_seqs - seqs;
    const int32_t most = std::max(rows, std::min(limits_.max_rows, least + free_seqs * per_pad));
    const int32_t padded = chance(0.2) ? rows : pick(rows, most);
    int32_t pads = (padded - least + per_pad - 1) / per_pad;
    if (one_each && chance(0.7) && padded - rows <= free_seqs) pads = padded - rows;
    return {.rows = PaddedRows(padded),
            .seqs = PaddedSeqs(pick(seqs + pads, limits_.max_seqs)),
            .logits_rows = PaddedRows(pick(logits_rows, limits_.max_logits_rows))};
  }

  template <typename T>
  T take(std::vector<T>& free) {
    std::swap(free[pick_index(free.size())], free.back());
    const T taken = free.back();
    free.pop_back();
    return taken;
  }
  size_t pick_index(size_t size) { return static_cast<size_t>(pick(0, static_cast<int32_t>(size) - 1)); }
  // A page or state slot that nobody holds, or 0.
  PageId free_page(int32_t g) const {
    const std::vector<int32_t>& holders = holders_[static_cast<size_t>(g)];
    const auto found = std::find(holders.begin() + 1, holders.end(), 0);
    return found == holders.end() ? PageId(0) : PageId(found - holders.begin());
  }
  PageId take_page(int32_t g) {
    const PageId page = free_page(g);
    ++holders_[static_cast<size_t>(g)][static_cast<size_t>(page.get())];
    return page;
  }
  void release_page(int32_t g, PageId page) {
    --holders_[static_cast<size_t>(g)][static_cast<size_t>(page.get())];
  }
  void hold(Sequence& sequence, int32_t g, PageId page) {
    const auto at = static_cast<size_t>(g);
    ++holders_[at][static_cast<size_t>(page.get())];
    sequence.pages[at].push_back(page);
    tables_[at]->append(sequence.table_rows[at], page);
  }

  std::mt19937_64 random_;
  StepLimits limits_;
  std::vector<std::unique_ptr<PageTables>> owned_tables_;
  std::array<PageTables*, kMaxGroups> tables_{};
  std::unique_ptr<PlanBuilder> builder_;
  std::array<std::vector<int32_t>, kMaxGroups> holders_;  // [pages]
  std::array<std::vector<TableRow>, kMaxGroups> free_table_rows_;
  std::vector<PenaltySlot> free_penalties_;
  std::deque<std::unique_ptr<Sequence>> waiting_;
  std::vector<std::unique_ptr<Sequence>> running_;
  std::vector<Sequence*> scheduled_;
  std::array<std::vector<PageCopy>, kMaxGroups> copies_;
  std::vector<std::pair<int32_t, PageId>> borrowed_;  // group, page: until the step has ended
  uint64_t epoch_ = 0;
};

}  // namespace lockstep
