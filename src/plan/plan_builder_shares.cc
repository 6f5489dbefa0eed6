// What a plan says of the rows of other context-parallel ranks.
#include <algorithm>

#include "plan/plan_builder.h"

namespace lockstep {

// The slots of every rank's rows, rank by rank, each as its own plan has them.
void PlanBuilder::derive_gathered_slots(const StepRequest& request, GroupId group, StepPlan& plan) const {
  const auto slots = plan.edit(field::cp_slot_mapping, group);
  std::fill(slots.begin(), slots.end(), SlotOrSkip::skip());
  if (cut_.ranks == 1) return;
  const int32_t page_tokens = limits_.group(group).page_tokens;
  const auto g = static_cast<size_t>(group.get());
  const auto put = [&](const SequenceStep& step, const CpChunk& chunk, size_t at) {
    const std::span<const PageId> pages = tables_[g]->pages(step.table_rows[g]);
    for (int32_t i = chunk.begin; i < chunk.begin + chunk.rows; ++i, ++at) {
      const int32_t position = step.computed.get() + i;
      const int64_t page = pages[static_cast<size_t>(position / page_tokens)].get();
      slots[at] = SlotOrSkip(page * page_tokens + position % page_tokens);
    }
    return at;
  };
  for (int32_t rank = 0; rank < cut_.ranks; ++rank) {
    const CpCut cut{cut_.ranks, rank};
    auto at = static_cast<size_t>(rank) * static_cast<size_t>(request.bucket.rows.get());
    for (const SequenceStep& step : request.sequences) at = put(step, cp_early(rows_of(step), cut), at);
    for (const SequenceStep& step : request.sequences) at = put(step, cp_late(rows_of(step), cut), at);
  }
}

// Where the last row of sequence s is: which rank has it, and which of its rows it is there. Called for every
// sequence in turn, for a rank's rows are counted on the way.
PlanBuilder::Place PlanBuilder::last_row(const StepPlan& plan, const StepRequest& request, size_t s) {
  const int32_t rows = rows_of(request.sequences[s]);
  if (cut_.ranks == 1) return {.rank = 0, .row = plan.get(field::query_start_loc)[s + 1].get() - 1};
  for (int32_t rank = 0; rank < cut_.ranks; ++rank) {
    Counted& counted = counted_[static_cast<size_t>(rank)];
    if (s == 0) {
      counted = {};
      for (const SequenceStep& step : request.sequences)
        counted.late +=
            cp_early(rows_of(step), {cut_.ranks, rank}).rows;  // late rows come after all of these
    }
    counted.early += cp_early(rows, {cut_.ranks, rank}).rows;
    counted.late += cp_late(rows, {cut_.ranks, rank}).rows;
  }
  const int32_t last = std::max(std::min(2 * cut_.ranks, rows), 1) - 1;
  const int32_t owner = cp_owner(last, cut_.ranks);
  const Counted& counted = counted_[static_cast<size_t>(owner)];
  return {.rank = owner, .row = (last < cut_.ranks ? counted.early : counted.late) - 1};
}

void PlanBuilder::derive_logits_rows(const StepRequest& request, StepPlan& plan) {
  size_t r = 0;
  const auto put = [&](const Place& place, Position position, PenaltySlot penalty_slot,
                       const SamplingFacts& facts) {
    const bool gathered = cut_.ranks > 1 && place.row >= 0;
    plan.edit(field::logits_rows)[r] = RowIndex(place.row);
    plan.edit(field::cp_logits_rows)[r] =
        gathered ? RowIndex(int64_t{place.rank} * request.bucket.logits_rows.get() + static_cast<int64_t>(r))
                 : RowIndex(-1);
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
  for (size_t s = 0; s < request.sequences.size(); ++s) {
    const SequenceStep& step = request.sequences[s];
    const Place last = last_row(plan, request, s);
    if (!step.wants_logits) continue;
    put(last, Position(step.computed.get() + rows_of(step)), step.penalty_slot, step.sampling);
  }
  while (r < plan.get(field::logits_rows).size())
    put({.rank = 0, .row = -1}, Position(0), PenaltySlot(-1), SamplingFacts{});
}

}  // namespace lockstep
