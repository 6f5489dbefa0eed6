#include "plan/plan_builder.h"

#include <algorithm>

namespace lockstep {
namespace {

// A pad row carries token 0: the embedding of some token, never of an invalid id.
constexpr TokenId kPadToken{0};

// The context-parallel chunks that one rank alone holds: both halves of the rows, the longer one first.
CpSegments halves(TokenCount computed, RowCount rows) {
  const int32_t first = (rows.get() + 1) / 2;
  return {.prev = {Position(computed.get()), RowCount(first)},
          .next = {Position(computed.get() + first), RowCount(rows.get() - first)}};
}

}  // namespace

PlanBuilder::PlanBuilder(const StepLimits& limits, std::vector<PageTables*> tables)
    : limits_(limits), tables_(std::move(tables)) {
  members_.reserve(static_cast<size_t>(limits.max_seqs));
}

Status PlanBuilder::build(const StepRequest& request, StepPlan& plan) {
  LS_TRY(pad(request));
  plan.reset(limits_, request.bucket);
  derive_rows(request, plan);
  derive_slots(plan);
  derive_sequences(plan);
  derive_logits_rows(plan);
  derive_scalars(request, plan);
  LS_TRY(derive_lists(request, plan));
  plan.freeze();
  return {};
}

// Missing rows become pad sequences, of one row each where every sequence has one row, else of up to a page
// of rows; missing sequences become empty ones. There is no third kind of row.
Status PlanBuilder::pad(const StepRequest& request) {
  const Bucket& bucket = request.bucket;
  if (bucket.rows.get() > limits_.max_rows || bucket.seqs.get() > limits_.max_seqs ||
      bucket.logits_rows.get() > limits_.max_logits_rows) {
    return error(Code::kInternal, "plan ", request.epoch, ": bucket of ", bucket.rows, " rows, ", bucket.seqs,
                 " sequences and ", bucket.logits_rows, " logits rows; expected at most ", limits_.max_rows,
                 ", ", limits_.max_seqs, " and ", limits_.max_logits_rows);
  }
  members_.clear();
  int32_t rows = 0;
  int32_t logits_rows = 0;
  bool uniform = true;
  for (const SequenceStep& step : request.sequences) {
    const RowCount own(step.tokens.size());
    members_.push_back({.step = &step, .rows = own});
    rows += own.get();
    logits_rows += step.wants_logits ? 1 : 0;
    uniform = uniform && own == RowCount(1);
  }
  int32_t pad_rows = uniform ? 1 : bucket.rows.get();
  for (int32_t g = 0; g < limits_.num_groups && !uniform; ++g) {
    const CacheGroup& group = limits_.group(GroupId(g));
    if (group.kind == GroupKind::kPaged) pad_rows = std::min(pad_rows, group.page_tokens);
  }
  int32_t missing = bucket.rows.get() - rows;
  const int32_t live_missing = missing;
  while (missing > 0) {
    const RowCount own(std::min(missing, pad_rows));
    members_.push_back({.step = nullptr, .rows = own});
    missing -= own.get();
  }
  if (live_missing < 0 || static_cast<int32_t>(members_.size()) > bucket.seqs.get() ||
      logits_rows > bucket.logits_rows.get()) {
    return error(Code::kInternal, "plan ", request.epoch, ": ", request.sequences.size(), " sequences of ",
                 rows, " rows with ", logits_rows, " logits rows, padded to ", members_.size(),
                 " sequences; expected them to fit the bucket of ", bucket.rows, " rows, ", bucket.seqs,
                 " sequences and ", bucket.logits_rows, " logits rows");
  }
  members_.resize(static_cast<size_t>(bucket.seqs.get()), {.step = nullptr, .rows = RowCount(0)});
  return {};
}

void PlanBuilder::derive_rows(const StepRequest&, StepPlan& plan) const {
  const auto token_ids = plan.edit(field::token_ids);
  const auto token_source = plan.edit(field::token_source);
  const auto positions = plan.edit(field::positions);
  const auto write_slots = plan.edit(field::state_write_slots);
  const auto starts = plan.edit(field::query_start_loc);
  size_t row = 0;
  for (size_t s = 0; s < members_.size(); ++s) {
    starts[s] = RowOffset(row);
    const Member& member = members_[s];
    const int32_t computed = member.step != nullptr ? member.step->computed.get() : 0;
    for (int32_t i = 0; i < member.rows.get(); ++i, ++row) {
      const bool last = i + 1 == member.rows.get();
      token_ids[row] = member.step != nullptr ? member.step->tokens[static_cast<size_t>(i)] : kPadToken;
      token_source[row] =
          member.step != nullptr && last ? member.step->last_token_source : TokenSource::literal();
      positions[row] = Position(computed + i);
      const bool writes = member.step != nullptr && last && member.step->state_slot.get() > 0;
      write_slots[row] = writes ? StateSlotOrSkip(member.step->state_slot) : StateSlotOrSkip::skip();
    }
  }
  starts[members_.size()] = RowOffset(row);
}

void PlanBuilder::derive_slots(StepPlan& plan) const {
  for (int32_t g = 0; g < limits_.num_groups; ++g) {
    const GroupId group(g);
    if (limits_.group(group).kind != GroupKind::kPaged) continue;
    const int32_t page_tokens = limits_.group(group).page_tokens;
    const auto slots = plan.edit(field::slot_mapping, group);
    size_t row = 0;
    for (const Member& member : members_) {
      const std::span<const PageId> pages =
          member.step != nullptr
              ? tables_[static_cast<size_t>(g)]->pages(member.step->table_rows[static_cast<size_t>(g)])
              : std::span<const PageId>();
      for (int32_t i = 0; i < member.rows.get(); ++i, ++row) {
        if (member.step == nullptr) {
          slots[row] = SlotOrSkip::skip();
          continue;
        }
        const int32_t position = member.step->computed.get() + i;
        const int64_t page = pages[static_cast<size_t>(position / page_tokens)].get();
        slots[row] = SlotOrSkip(page * page_tokens + position % page_tokens);
      }
    }
  }
}

void PlanBuilder::derive_sequences(StepPlan& plan) const {
  for (size_t s = 0; s < members_.size(); ++s) {
    const Member& member = members_[s];
    const TokenCount computed = member.step != nullptr ? member.step->computed : TokenCount(0);
    plan.edit(field::computed_lens)[s] = computed;
    plan.edit(field::seq_lens)[s] = TokenCount(computed.get() + member.rows.get());
    plan.edit(field::prompt_lens)[s] = member.step != nullptr ? member.step->prompt_len : TokenCount(0);
    plan.edit(field::state_read_slot)[s] = member.step != nullptr ? member.step->state_slot : StateSlot(0);
    plan.edit(field::has_initial_state)[s] = computed.get() > 0 ? 1 : 0;
    plan.edit(field::penalty_slots)[s] = member.step != nullptr ? member.step->penalty_slot : PenaltySlot(-1);
    plan.edit(field::cp_segments)[s] = halves(computed, member.rows);
    for (int32_t g = 0; g < limits_.num_groups; ++g) {
      if (limits_.group(GroupId(g)).kind != GroupKind::kPaged) continue;
      const TableRow row =
          member.step != nullptr ? member.step->table_rows[static_cast<size_t>(g)] : TableRow(0);
      plan.edit(field::table_rows, GroupId(g))[s] = row;
      plan.edit(field::table_digests, GroupId(g))[s] = tables_[static_cast<size_t>(g)]->digest(row);
    }
  }
}

void PlanBuilder::derive_logits_rows(StepPlan& plan) const {
  const auto starts = plan.get(field::query_start_loc);
  size_t r = 0;
  const auto put = [&](RowIndex row, Position position, PenaltySlot penalty_slot,
                       const SamplingFacts& facts) {
    plan.edit(field::logits_rows)[r] = row;
    plan.edit(field::temperature)[r] = facts.temperature;
    plan.edit(field::top_k)[r] = facts.top_k;
    plan.edit(field::top_p)[r] = facts.top_p;
    plan.edit(field::min_p)[r] = facts.min_p;
    plan.edit(field::repetition_penalty)[r] = facts.repetition_penalty;
    plan.edit(field::presence_penalty)[r] = facts.presence_penalty;
    plan.edit(field::frequency_penalty)[r] = facts.frequency_penalty;
    plan.edit(field::seed)[r] = facts.seed;
    plan.edit(field::sample_positions)[r] = position;
    plan.edit(field::sample_penalty_slots)[r] = penalty_slot;
    plan.edit(field::mask_slots)[r] = facts.mask_slot;
    plan.edit(field::logprobs)[r] = facts.logprobs;
    ++r;
  };
  for (size_t s = 0; s < members_.size(); ++s) {
    const SequenceStep* step = members_[s].step;
    if (step == nullptr || !step->wants_logits) continue;
    put(RowIndex(starts[s + 1].get() - 1), Position(step->computed.get() + members_[s].rows.get()),
        step->penalty_slot, step->sampling);
  }
  while (r < plan.get(field::logits_rows).size())
    put(RowIndex(-1), Position(0), PenaltySlot(-1), SamplingFacts{});
}

void PlanBuilder::derive_scalars(const StepRequest& request, StepPlan& plan) const {
  int32_t rows = 0, logits_rows = 0, longest_query = 0, longest = 0;
  bool uniform = true, decode = true, prefill = true;
  for (const Member& member : members_) {
    const int32_t own = member.rows.get();
    if (own == 0) continue;
    uniform = uniform && own == members_.front().rows.get();
    longest_query = std::max(longest_query, own);
    longest = std::max(longest, own + (member.step != nullptr ? member.step->computed.get() : 0));
    if (member.step == nullptr) continue;
    rows += own;
    logits_rows += member.step->wants_logits ? 1 : 0;
    (own == 1 ? prefill : decode) = false;
  }
  const Phase phase = rows == 0 ? Phase::kIdle
                      : decode  ? Phase::kDecode
                      : prefill ? Phase::kPrefill
                                : Phase::kMixed;
  plan.edit(field::epoch)[0] = request.epoch;
  plan.edit(field::source_epoch)[0] = request.source_epoch;
  plan.edit(field::num_rows)[0] = LiveRows(rows);
  plan.edit(field::num_seqs)[0] = LiveSeqs(request.sequences.size());
  plan.edit(field::num_logits_rows)[0] = LiveRows(logits_rows);
  plan.edit(field::max_seq_len)[0] = TokenCount(longest);
  plan.edit(field::phase)[0] = static_cast<int32_t>(phase);
  plan.edit(field::num_rows_padded)[0] = request.bucket.rows;
  plan.edit(field::num_seqs_padded)[0] = request.bucket.seqs;
  plan.edit(field::num_logits_rows_padded)[0] = request.bucket.logits_rows;
  plan.edit(field::max_query_len)[0] = RowCount(longest_query);
  plan.edit(field::uniform_query_len)[0] = RowCount(uniform ? longest_query : 0);
  for (PaddedRows& count : plan.edit(field::dp_row_counts)) count = request.bucket.rows;
}

Status PlanBuilder::derive_lists(const StepRequest& request, StepPlan& plan) {
  for (int32_t g = 0; g < limits_.num_groups; ++g) {
    const GroupId group(g);
    const std::span<const PageCopy> copies = request.copies[static_cast<size_t>(g)];
    const bool paged = limits_.group(group).kind == GroupKind::kPaged;
    const std::span<const TableEdit> edits =
        paged ? tables_[static_cast<size_t>(g)]->pending_edits() : std::span<const TableEdit>();
    if (static_cast<int64_t>(edits.size()) > limits_.max_edits ||
        static_cast<int64_t>(copies.size()) > limits_.max_copies) {
      return error(Code::kInternal, "plan ", request.epoch, ": group ", group, " has ", edits.size(),
                   " table edits and ", copies.size(), " copies; expected at most ", limits_.max_edits,
                   " and ", limits_.max_copies);
    }
    std::copy(copies.begin(), copies.end(), plan.edit(field::copies, group).begin());
    plan.edit(field::num_copies, group)[0] = static_cast<int32_t>(copies.size());
    if (!paged) continue;
    std::copy(edits.begin(), edits.end(), plan.edit(field::table_edits, group).begin());
    plan.edit(field::num_table_edits, group)[0] = static_cast<int32_t>(edits.size());
  }
  for (PageTables* tables : tables_) {
    if (tables != nullptr) tables->edits_taken();
  }
  return {};
}

}  // namespace lockstep
