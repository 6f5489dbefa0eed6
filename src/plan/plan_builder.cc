#include "plan/plan_builder.h"

#include <algorithm>

#include "base/math.h"

namespace lockstep {
namespace {

// A pad row carries token 0: the embedding of some token, never of an invalid id.
constexpr TokenId kPadToken{0};

CpSegment segment_of(TokenCount computed, const CpChunk& chunk) {
  return {Position(computed.get() + chunk.begin), RowCount(chunk.rows)};
}

// The chunks of a rank; one that is alone holds both halves of all rows, the longer one first.
CpSegments segments_of(TokenCount computed, int32_t rows, const CpCut& cut) {
  return {.prev = segment_of(computed, cp_early(rows, cut)),
          .next = segment_of(computed, cp_late(rows, cut))};
}

}  // namespace

PlanBuilder::PlanBuilder(const StepLimits& limits, std::vector<PageTables*> tables)
    : limits_(limits), tables_(std::move(tables)) {
  const Status checked = check_limits(limits_);
  LS_CHECK(checked.ok(), checked.message());
  LS_CHECK(static_cast<int32_t>(tables_.size()) >= limits.num_groups, tables_.size(), " tables for ",
           limits.num_groups, " groups");
  for (int32_t g = 0; g < limits.num_groups; ++g) {
    const bool paged = limits.group(GroupId(g)).kind == GroupKind::kPaged;
    LS_CHECK(!paged || tables_[static_cast<size_t>(g)] != nullptr, "no table for paged group ", g);
  }
  members_.reserve(static_cast<size_t>(limits.max_seqs) + 1);
  counted_.resize(static_cast<size_t>(limits.cp_ranks));
}

Status PlanBuilder::build(const StepRequest& request, StepPlan& plan) {
  LS_TRY(check_bucket(request));
  for (size_t s = 0; s < request.sequences.size(); ++s) LS_TRY(check_sequence(request, s));
  LS_TRY(check_lists(request));
  cut_ = cp_cuts(request.sequences, request.cut.ranks) ? request.cut : CpCut{};
  LS_TRY(pad(request));
  plan.reset(limits_, request.bucket);
  derive_rows(plan);
  derive_sequences(plan);
  for (int32_t g = 0; g < limits_.num_groups; ++g) {
    if (limits_.group(GroupId(g)).kind != GroupKind::kPaged) continue;
    derive_slots(GroupId(g), plan);
    derive_gathered_slots(request, GroupId(g), plan);
    derive_tables(GroupId(g), plan);
  }
  derive_logits_rows(request, plan);
  derive_scalars(request, plan);
  derive_lists(request, plan);
  plan.freeze();
  return {};
}

void PlanBuilder::accepted() {
  for (PageTables* tables : tables_) {
    if (tables != nullptr) tables->edits_taken();
  }
}

Status PlanBuilder::check_bucket(const StepRequest& request) const {
  const Bucket& bucket = request.bucket;
  const auto fits = [](int32_t value, int32_t limit) { return value >= 0 && value <= limit; };
  if (!fits(bucket.rows.get(), limits_.max_rows) || !fits(bucket.seqs.get(), limits_.max_seqs) ||
      !fits(bucket.logits_rows.get(), limits_.max_logits_rows)) {
    return error(Code::kInternal, "plan ", request.epoch, ": bucket of ", bucket.rows, " rows, ", bucket.seqs,
                 " sequences and ", bucket.logits_rows, " logits rows; expected at most ", limits_.max_rows,
                 ", ", limits_.max_seqs, " and ", limits_.max_logits_rows);
  }
  const CpCut& cut = request.cut;
  if ((cut.ranks != 1 && cut.ranks != limits_.cp_ranks) || cut.rank < 0 || cut.rank >= cut.ranks) {
    return error(Code::kInternal, "plan ", request.epoch, ": cut for rank ", cut.rank, " of ", cut.ranks,
                 "; expected a rank of 1 or of cp_ranks = ", limits_.cp_ranks);
  }
  return {};
}

// What the derivations below index with; whether the facts agree with each other is the validator's business.
Status PlanBuilder::check_sequence(const StepRequest& request, size_t s) const {
  const SequenceStep& step = request.sequences[s];
  const auto rows = static_cast<int64_t>(step.tokens.size());
  const int64_t length = step.computed.get() + rows;
  if (step.computed.get() < 0 || length > limits_.max_seq_len) {
    return error(Code::kInternal, "plan ", request.epoch, ": sequence ", s, " has ", rows, " rows after ",
                 step.computed, " computed tokens; expected at most ", limits_.max_seq_len, " tokens");
  }
  if (step.wants_logits && rows == 0) {
    return error(Code::kInternal, "plan ", request.epoch, ": sequence ", s,
                 " wants logits of no rows; expected a row whose logits they are");
  }
  for (int32_t g = 0; g < limits_.num_groups; ++g) {
    const CacheGroup& group = limits_.group(GroupId(g));
    if (group.kind != GroupKind::kPaged) continue;
    const PageTables& tables = *tables_[static_cast<size_t>(g)];
    const TableRow row = step.table_rows[static_cast<size_t>(g)];
    const int64_t needed = ceil_div(length, int64_t{group.page_tokens});
    const bool in_range = row.get() > 0 && row.get() < tables.rows();
    const int64_t held = in_range ? static_cast<int64_t>(tables.pages(row).size()) : 0;
    if (!in_range || held < needed) {
      return error(Code::kInternal, "plan ", request.epoch, ": sequence ", s, " of ", length,
                   " tokens holds ", held, " of ", needed, " pages in table row ", row, " of group ", g,
                   "; expected a table row of 1..", tables.rows() - 1, " that holds them all");
    }
  }
  return {};
}

Status PlanBuilder::check_lists(const StepRequest& request) const {
  for (int32_t g = 0; g < limits_.num_groups; ++g) {
    const size_t edits = pending_edits(GroupId(g)).size();
    const size_t copies = request.copies[static_cast<size_t>(g)].size();
    if (edits > static_cast<size_t>(limits_.max_edits) || copies > static_cast<size_t>(limits_.max_copies)) {
      return error(Code::kInternal, "plan ", request.epoch, ": group ", g, " has ", edits,
                   " table edits and ", copies, " copies; expected at most ", limits_.max_edits, " and ",
                   limits_.max_copies);
    }
  }
  return {};
}

std::span<const TableEdit> PlanBuilder::pending_edits(GroupId group) const {
  if (limits_.group(group).kind != GroupKind::kPaged) return {};
  return tables_[static_cast<size_t>(group.get())]->pending_edits();
}

// One row where every live sequence has one and the bucket has a sequence for each missing row, else a page:
// a pad sequence reads the pad page only, so it is no longer than that in any group.
int32_t PlanBuilder::rows_per_pad(const Bucket& bucket, const Totals& totals, int64_t free_seqs) const {
  if (totals.one_row_each && bucket.rows.get() - totals.rows <= free_seqs) return 1;
  int32_t rows = std::min(bucket.rows.get(), limits_.max_seq_len);
  for (int32_t g = 0; g < limits_.num_groups; ++g) {
    const CacheGroup& group = limits_.group(GroupId(g));
    if (group.kind == GroupKind::kPaged) rows = std::min(rows, group.page_tokens);
  }
  return rows;
}

// A rank that shares the rows runs two parts of each sequence: all early chunks, then all late ones. Each is
// a member of its own, so nobody has to know where the early ones end.
void PlanBuilder::list_members(const StepRequest& request) {
  members_.clear();
  const auto add = [&](const SequenceStep& step, const CpChunk& chunk) {
    members_.push_back({.step = &step,
                        .rows = RowCount(chunk.rows),
                        .computed = TokenCount(step.computed.get() + chunk.begin),
                        .first = chunk.begin});
  };
  const bool whole = cut_.ranks == 1;
  for (const SequenceStep& step : request.sequences)
    add(step, whole ? CpChunk{0, rows_of(step)} : cp_early(rows_of(step), cut_));
  if (whole) return;
  for (const SequenceStep& step : request.sequences) add(step, cp_late(rows_of(step), cut_));
}

// Missing rows become pad sequences; missing sequences become empty ones. There is no third kind of row.
Status PlanBuilder::pad(const StepRequest& request) {
  const Bucket& bucket = request.bucket;
  list_members(request);
  const auto seqs = static_cast<int64_t>(members_.size());
  Totals totals;
  for (const Member& member : members_) {
    totals.rows += member.rows.get();
    totals.one_row_each = totals.one_row_each && member.rows == RowCount(1);
  }
  const auto logits_rows = std::count_if(request.sequences.begin(), request.sequences.end(),
                                         [](const SequenceStep& step) { return step.wants_logits; });
  const int64_t missing = bucket.rows.get() - totals.rows;
  const int64_t free_seqs = bucket.seqs.get() - seqs;
  const int64_t per_pad = missing > 0 ? rows_per_pad(bucket, totals, free_seqs) : 1;
  if (missing < 0 || free_seqs < 0 || ceil_div(std::max<int64_t>(missing, 0), per_pad) > free_seqs ||
      logits_rows > bucket.logits_rows.get()) {
    return error(Code::kInternal, "plan ", request.epoch, ": ", seqs, " sequences of ", totals.rows,
                 " rows with ", logits_rows, " logits rows; expected them, padded, to fit the bucket of ",
                 bucket.rows, " rows, ", bucket.seqs, " sequences and ", bucket.logits_rows, " logits rows");
  }
  for (int64_t left = missing; left > 0; left -= per_pad)
    members_.push_back(
        {.step = nullptr, .rows = RowCount(std::min(left, per_pad)), .computed = TokenCount(0)});
  members_.resize(static_cast<size_t>(bucket.seqs.get()));
  return {};
}

void PlanBuilder::derive_rows(StepPlan& plan) const {
  const auto token_ids = plan.edit(field::token_ids);
  const auto token_source = plan.edit(field::token_source);
  const auto positions = plan.edit(field::positions);
  const auto write_slots = plan.edit(field::state_write_slots);
  const auto starts = plan.edit(field::query_start_loc);
  size_t row = 0;
  for (size_t s = 0; s < members_.size(); ++s) {
    starts[s] = RowOffset(row);
    const Member& member = members_[s];
    for (int32_t i = 0; i < member.rows.get(); ++i, ++row) {
      token_ids[row] =
          member.step != nullptr ? member.step->tokens[static_cast<size_t>(member.first + i)] : kPadToken;
      token_source[row] = TokenSource::literal();
      positions[row] = Position(member.computed.get() + i);
      write_slots[row] = StateSlotOrSkip::skip();
    }
    if (member.step == nullptr || member.rows.get() == 0) continue;
    if (member.first + member.rows.get() == rows_of(*member.step))
      token_source[row - 1] = member.step->last_token_source;
    if (member.step->state_slot.get() > 0) write_slots[row - 1] = StateSlotOrSkip(member.step->state_slot);
  }
  starts[members_.size()] = RowOffset(row);
}

void PlanBuilder::derive_slots(GroupId group, StepPlan& plan) const {
  const int32_t page_tokens = limits_.group(group).page_tokens;
  const auto g = static_cast<size_t>(group.get());
  const auto slots = plan.edit(field::slot_mapping, group);
  size_t row = 0;
  for (const Member& member : members_) {
    if (member.step == nullptr) {
      for (int32_t i = 0; i < member.rows.get(); ++i, ++row) slots[row] = SlotOrSkip::skip();
      continue;
    }
    const std::span<const PageId> pages = tables_[g]->pages(member.step->table_rows[g]);
    for (int32_t i = 0; i < member.rows.get(); ++i, ++row) {
      const int32_t position = member.computed.get() + i;
      const int64_t page = pages[static_cast<size_t>(position / page_tokens)].get();
      slots[row] = SlotOrSkip(page * page_tokens + position % page_tokens);
    }
  }
}

void PlanBuilder::derive_sequences(StepPlan& plan) const {
  const auto computed_lens = plan.edit(field::computed_lens);
  const auto seq_lens = plan.edit(field::seq_lens);
  const auto prompt_lens = plan.edit(field::prompt_lens);
  const auto read_slots = plan.edit(field::state_read_slot);
  const auto initial = plan.edit(field::has_initial_state);
  const auto penalty_slots = plan.edit(field::penalty_slots);
  const auto segments = plan.edit(field::cp_segments);
  const auto spans = plan.edit(field::cp_spans);
  for (size_t s = 0; s < members_.size(); ++s) {
    const Member& member = members_[s];
    const SequenceStep* step = member.step;
    computed_lens[s] = member.computed;
    seq_lens[s] = TokenCount(member.computed.get() + member.rows.get());
    prompt_lens[s] = step != nullptr ? step->prompt_len : TokenCount(0);
    read_slots[s] = step != nullptr ? step->state_slot : StateSlot(0);
    initial[s] = member.computed.get() > 0 ? 1 : 0;
    penalty_slots[s] = step != nullptr ? step->penalty_slot : PenaltySlot(-1);
    segments[s] = step != nullptr ? segments_of(step->computed, rows_of(*step), cut_)
                                  : segments_of(TokenCount(0), member.rows.get(), {});
    if (step != nullptr) spans[s] = {Position(step->computed.get()), RowCount(rows_of(*step))};
  }
  plan.edit(field::cp_ranks)[0] = cut_.ranks;
  plan.edit(field::cp_rank)[0] = cut_.rank;
}

void PlanBuilder::derive_tables(GroupId group, StepPlan& plan) const {
  const int32_t page_tokens = limits_.group(group).page_tokens;
  const auto g = static_cast<size_t>(group.get());
  const auto rows = plan.edit(field::table_rows, group);
  const auto digests = plan.edit(field::table_digests, group);
  for (size_t s = 0; s < members_.size(); ++s) {
    const Member& member = members_[s];
    const int32_t length = member.computed.get() + member.rows.get();
    rows[s] = member.step != nullptr ? member.step->table_rows[g] : TableRow(0);
    digests[s] = tables_[g]->digest(rows[s], PageCount(ceil_div(length, page_tokens)));
  }
}

void PlanBuilder::derive_scalars(const StepRequest& request, StepPlan& plan) const {
  int32_t rows = 0, longest_query = 0, shortest_query = limits_.max_rows, longest = 0, live = 0;
  for (const Member& member : members_) {
    const int32_t own = member.rows.get();
    longest = std::max(longest, member.computed.get() + own);
    live += member.step != nullptr ? 1 : 0;
    if (own == 0) continue;
    longest_query = std::max(longest_query, own);
    shortest_query = std::min(shortest_query, own);
    rows += member.step != nullptr ? own : 0;
  }
  int32_t logits_rows = 0;
  bool single = false, several = false;  // of whole sequences: ranks that share a step are in one phase
  for (const SequenceStep& step : request.sequences) {
    logits_rows += step.wants_logits ? 1 : 0;
    if (rows_of(step) > 0) (rows_of(step) == 1 ? single : several) = true;
  }
  const Phase phase = single && several ? Phase::kMixed
                      : single          ? Phase::kDecode
                      : several         ? Phase::kPrefill
                                        : Phase::kIdle;
  const auto sources = plan.get(field::token_source);
  const bool sourced =
      std::any_of(sources.begin(), sources.end(), [](TokenSource source) { return !source.is_literal(); });
  plan.edit(field::epoch)[0] = request.epoch;
  plan.edit(field::source_epoch)[0] = sourced ? request.source_epoch : Epoch(0);
  plan.edit(field::num_rows)[0] = LiveRows(rows);
  plan.edit(field::num_seqs)[0] = LiveSeqs(live);
  plan.edit(field::num_logits_rows)[0] = LiveRows(logits_rows);
  plan.edit(field::max_seq_len)[0] = TokenCount(longest);
  plan.edit(field::phase)[0] = static_cast<int32_t>(phase);
  plan.edit(field::num_rows_padded)[0] = request.bucket.rows;
  plan.edit(field::num_seqs_padded)[0] = request.bucket.seqs;
  plan.edit(field::num_logits_rows_padded)[0] = request.bucket.logits_rows;
  plan.edit(field::max_query_len)[0] = RowCount(longest_query);
  plan.edit(field::uniform_query_len)[0] = RowCount(shortest_query == longest_query ? longest_query : 0);
  for (PaddedRows& count : plan.edit(field::dp_row_counts)) count = request.bucket.rows;
}

void PlanBuilder::derive_lists(const StepRequest& request, StepPlan& plan) const {
  for (int32_t g = 0; g < limits_.num_groups; ++g) {
    const GroupId group(g);
    const std::span<const PageCopy> copies = request.copies[static_cast<size_t>(g)];
    std::copy(copies.begin(), copies.end(), plan.edit(field::copies, group).begin());
    plan.edit(field::num_copies, group)[0] = static_cast<int32_t>(copies.size());
    if (limits_.group(group).kind != GroupKind::kPaged) continue;
    const std::span<const TableEdit> edits = pending_edits(group);
    std::copy(edits.begin(), edits.end(), plan.edit(field::table_edits, group).begin());
    plan.edit(field::num_table_edits, group)[0] = static_cast<int32_t>(edits.size());
  }
}

}  // namespace lockstep
