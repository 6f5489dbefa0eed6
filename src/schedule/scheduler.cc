#include "schedule/scheduler.h"

#include <algorithm>

#include "base/check.h"
#include "base/math.h"

namespace lockstep {

Scheduler::Scheduler(const SchedulerOptions& options)
    : options_(options),
      caches_(caches_of(options)),
      rows_(options.limits.group(options.kv_group).table_rows),
      states_(has_states() ? options.limits.group(options.state_group).num_pages : 1),
      penalties_(options.limits.penalty_slots) {}

std::vector<Scheduler::PagedCache> Scheduler::caches_of(const SchedulerOptions& options) {
  std::vector<PagedCache> caches;
  const auto add = [&](GroupId id) {
    const CacheGroup& group = options.limits.group(id);
    LS_CHECK(group.page_tokens == options.limits.group(options.kv_group).page_tokens, "group ", id,
             " has pages of ", group.page_tokens, " tokens");
    caches.push_back({.group = id,
                      .pages = PagePool(group.num_pages),
                      .tables = PageTables(group.table_rows, group.max_pages_per_seq)});
  };
  add(options.kv_group);
  for (int32_t g = 0; g < options.limits.num_groups; ++g) {
    if (GroupId(g) != options.kv_group && options.limits.group(GroupId(g)).kind == GroupKind::kPaged)
      add(GroupId(g));
  }
  return caches;
}

PageTables* Scheduler::page_tables(GroupId group) {
  for (PagedCache& cache : caches_) {
    if (cache.group == group) return &cache.tables;
  }
  return nullptr;
}

PageCount Scheduler::free_pages() const {
  PageCount least = caches_[0].pages.available();
  for (const PagedCache& cache : caches_) least = std::min(least, cache.pages.available());
  return least;
}

void Scheduler::step_ended(Epoch step) {
  ended_ = std::max(ended_, step);
  for (PagedCache& cache : caches_) cache.pages.step_ended(step);
}

Status Scheduler::add(Sequence& sequence, int32_t longest) {
  const int32_t page_tokens = options_.limits.group(options_.kv_group).page_tokens;
  const int32_t pages = ceil_div(longest, page_tokens);
  for (const PagedCache& cache : caches_) {
    if (pages <= cache.pages.capacity().get()) continue;
    return error(Code::kInvalidArgument, "request: ", longest, " tokens need ", pages, " pages of ",
                 page_tokens, " tokens; expected at most the ", cache.pages.capacity(),
                 " of the pool; shorten it or raise --num-pages");
  }
  sequences_.push_back(&sequence);
  return {};
}

void Scheduler::remove(Sequence& sequence) {
  if (sequence.running) release(sequence);
  std::erase(sequences_, &sequence);
  for (Batch& batch : batches_)
    std::replace(batch.sequences.begin(), batch.sequences.end(), &sequence, static_cast<Sequence*>(nullptr));
}

Decision Scheduler::decide_now() const {
  std::vector<Candidate> candidates;
  candidates.reserve(sequences_.size());
  for (const Sequence* sequence : sequences_) {
    // One that ends with the step under way has nothing to do any more.
    candidates.push_back({.length = sequence->complete() ? sequence->computed : sequence->length(),
                          .computed = sequence->computed,
                          .pages = sequence->held_pages(),
                          .running = sequence->running});
  }
  const int32_t free_slots =
      has_states() ? std::min(rows_.available(), states_.available()) : rows_.available();
  return decide(candidates, {.max_rows = options_.max_rows,
                             .max_running = options_.max_running,
                             .chunk_size = options_.chunk_size,
                             .page_tokens = options_.limits.group(options_.kv_group).page_tokens,
                             .free_pages = free_pages().get(),
                             .free_slots = free_slots});
}

const Batch* Scheduler::plan(Epoch epoch, bool may_preempt) {
  const Decision decision = decide_now();
  if (!may_preempt && !decision.preempt.empty()) return nullptr;
  newest_ = (newest_ + 1) % batches_.size();
  Batch& batch = batches_[newest_] = {};
  for (const int32_t i : decision.preempt) {
    Sequence& victim = *sequences_[static_cast<size_t>(i)];
    release(victim);
    ++victim.preemptions;
    ++preemptions_;
  }
  for (size_t i = 0; i < sequences_.size(); ++i) {
    const int32_t own = decision.rows[i];
    if (own == 0) continue;
    Sequence& sequence = *sequences_[i];
    if (!sequence.running) start(sequence);
    extend(sequence, sequence.computed + own);
    batch.steps.push_back(step_of(sequence, own, epoch));
    batch.sequences.push_back(&sequence);
    sequence.last_step = epoch;
    batch.decode = batch.decode && own == 1 && batch.steps.back().wants_logits;
    if (!batch.steps.back().last_token_source.is_literal()) batch.source_epoch = sequence.sampled_epoch;
  }
  batch.rows = static_cast<int32_t>(cp_extent(batch.steps, options_.limits.cp_ranks).rows);
  if (!batch.empty()) batch.bucket = bucket_for(batch, batch.rows, batch.decode);
  return &batch;
}

Bucket Scheduler::bucket_for(const Batch& batch, int32_t rows, bool decode) const {
  if (!decode) {
    Bucket own = bucket_of(options_.limits, batch.steps, rows);
    // Where another replica does not decode, nobody replays a graph: an empty sequence more keeps this step
    // apart from the decode step that it would look like.
    if (own.seqs.get() == rows && own.logits_rows == own.rows) own.seqs = PaddedSeqs(rows + 1);
    return own;
  }
  const auto bucket = std::lower_bound(options_.decode_buckets.begin(), options_.decode_buckets.end(), rows);
  const int32_t size = bucket != options_.decode_buckets.end() ? *bucket : rows;
  return {.rows = PaddedRows(size), .seqs = PaddedSeqs(size), .logits_rows = PaddedRows(size)};
}

SequenceStep Scheduler::step_of(const Sequence& sequence, int32_t rows, Epoch epoch) const {
  const bool last_is_new = sequence.computed + rows == sequence.length();
  const bool on_device =
      last_is_new && sequence.sampled_row >= 0 && sequence.sampled_epoch.get() + 1 == epoch.get();
  // A token is no number before its step has ended.
  LS_CHECK(on_device || sequence.sampled_row < 0 || sequence.sampled_epoch <= ended_, "sequence ",
           sequence.id, " waits for a token of step ", sequence.sampled_epoch);
  SequenceStep step{
      .tokens = std::span(sequence.tokens)
                    .subspan(static_cast<size_t>(sequence.computed), static_cast<size_t>(rows)),
      .last_token_source = on_device ? TokenSource(sequence.sampled_row) : TokenSource::literal(),
      .computed = TokenCount(sequence.computed),
      .prompt_len = TokenCount(sequence.prompt_len),
      .state_slot = sequence.state_slot,
      .penalty_slot = sequence.penalty_slot,
      .wants_logits = last_is_new,
      .sampling = sequence.sampling};
  for (const PagedCache& cache : caches_)
    step.table_rows[static_cast<size_t>(cache.group.get())] = sequence.table_row;
  return step;
}

void Scheduler::start(Sequence& sequence) {
  // The policy counted free rows and states before it admitted the sequence.
  Result<TableRow> row = rows_.allocate();
  LS_CHECK(row.ok(), row.status().message());
  sequence.table_row = *row;
  if (has_states()) {
    Result<StateSlot> state = states_.allocate();
    LS_CHECK(state.ok(), state.status().message());
    sequence.state_slot = *state;
  }
  if (sequence.has_penalties) {
    Result<PenaltySlot> slot = penalties_.allocate();
    LS_CHECK(slot.ok(), slot.status().message());
    sequence.penalty_slot = *slot;
  }
  sequence.running = true;
}

void Scheduler::extend(Sequence& sequence, int32_t tokens) {
  const int32_t page_tokens = options_.limits.group(options_.kv_group).page_tokens;
  sequence.pages.resize(caches_.size());
  while (sequence.held_pages() * page_tokens < tokens) {
    for (size_t i = 0; i < caches_.size(); ++i) {
      Result<PageId> page = caches_[i].pages.allocate();
      LS_CHECK(page.ok(), page.status().message());
      sequence.pages[i].push_back(*page);
      caches_[i].tables.append(sequence.table_row, *page);
    }
  }
}

void Scheduler::release(Sequence& sequence) {
  for (size_t i = 0; i < caches_.size(); ++i) {
    for (const PageId page : sequence.pages[i]) caches_[i].pages.release(page, sequence.last_step);
    caches_[i].tables.clear(sequence.table_row);
  }
  sequence.pages.clear();
  rows_.release(sequence.table_row);
  if (has_states()) states_.release(sequence.state_slot);
  if (sequence.has_penalties) penalties_.release(sequence.penalty_slot);
  sequence.table_row = TableRow(0);
  sequence.state_slot = StateSlot(0);
  sequence.penalty_slot = PenaltySlot(-1);
  sequence.computed = 0;
  sequence.sampled_row = -1;
  sequence.running = false;
}

void Scheduler::begun(const Batch& batch, Epoch step) {
  int32_t logits_row = 0;
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    Sequence& sequence = *batch.sequences[i];
    sequence.computed += rows_of(batch.steps[i]);
    if (!batch.steps[i].wants_logits) continue;
    const auto answered = static_cast<size_t>(sequence.length() - sequence.prompt_len);
    const bool forced = answered < sequence.forced.size();  // the device holds another token than the next
    sequence.tokens.push_back(forced ? sequence.forced[answered] : TokenId(0));
    sequence.sampled_epoch = step;
    sequence.sampled_row = forced ? -1 : logits_row;
    ++logits_row;
  }
}

void Scheduler::ended(const Batch& batch, const StepResult& result) {
  step_ended(result.epoch);
  size_t logits_row = 0;
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    const SequenceStep& step = batch.steps[i];
    if (!step.wants_logits) continue;
    const TokenId drawn = result.tokens[logits_row++];
    Sequence* sequence = batch.sequences[i];
    if (sequence == nullptr) continue;
    const int32_t at = step.computed.get() + rows_of(step);
    if (static_cast<size_t>(at - sequence->prompt_len) < sequence->forced.size()) continue;
    sequence->tokens[static_cast<size_t>(at)] = drawn;
  }
}

Status Scheduler::check_idle() const {
  for (const PagedCache& cache : caches_) {
    if (sequences_.empty()) LS_TRY(cache.pages.check_idle());
  }
  if (sequences_.empty() && rows_.idle() && states_.idle() && penalties_.idle()) return {};
  return error(Code::kInternal, "scheduler: ", sequences_.size(), " sequences hold ",
               rows_.capacity() - rows_.available(), " table rows, ",
               states_.capacity() - states_.available(), " states and ",
               penalties_.capacity() - penalties_.available(),
               " penalty slots; expected none where no request is left");
}

}  // namespace lockstep
