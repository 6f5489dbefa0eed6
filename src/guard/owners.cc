#include "guard/owners.h"

#include <algorithm>

namespace lockstep {
namespace {

// Sequences whose rows are shared among ranks: the plan has an early chunk of each, then a late one. 0: none.
int32_t shared_sequences(const StepPlan& plan) {
  return plan.scalar(field::cp_ranks) > 1 ? std::max(0, plan.scalar(field::num_seqs).get() / 2) : 0;
}

}  // namespace

void Owners::read(const StepPlan& plan) {
  const Bucket& bucket = plan.bucket();
  rows_.assign(static_cast<size_t>(bucket.rows.get()), {});
  sequences_.assign(static_cast<size_t>(bucket.seqs.get()), {});
  logits_rows_.assign(static_cast<size_t>(bucket.logits_rows.get()), {.owner = Owner::kPad});
  const int32_t live = plan.scalar(field::num_seqs).get();
  const int32_t shared = shared_sequences(plan);
  const auto starts = plan.get(field::query_start_loc);
  const auto num_rows = static_cast<int32_t>(rows_.size());
  for (int32_t s = 0; s < static_cast<int32_t>(sequences_.size()); ++s) {
    const bool late = s >= shared && s < 2 * shared;
    const OwnedEntry entry{.owner = s < live ? Owner::kLive : Owner::kPad, .sequence = late ? s - shared : s};
    sequences_[static_cast<size_t>(s)] = entry;
    const int32_t begin = std::clamp(starts[static_cast<size_t>(s)].get(), 0, num_rows);
    const int32_t end = std::clamp(starts[static_cast<size_t>(s) + 1].get(), begin, num_rows);
    std::fill(rows_.begin() + begin, rows_.begin() + end, entry);
  }
  if (shared > 0) return read_shared_logits(plan);
  const auto logits = plan.get(field::logits_rows);
  for (size_t r = 0; r < logits_rows_.size(); ++r) {
    const int32_t row = logits[r].get();
    if (row < 0 || row >= num_rows) continue;
    const OwnedEntry& owner = rows_[static_cast<size_t>(row)];
    if (owner.owner == Owner::kLive) logits_rows_[r] = owner;
  }
}

// Their rows may be another rank's, so they are known by where their sequences end. They stand in the order
// of sequences.
void Owners::read_shared_logits(const StepPlan& plan) {
  const auto spans = plan.get(field::cp_spans);
  const int32_t shared = std::min(shared_sequences(plan), static_cast<int32_t>(spans.size()));
  const auto live = static_cast<size_t>(std::max(0, plan.scalar(field::num_logits_rows).get()));
  int32_t s = 0;
  for (size_t r = 0; r < std::min(live, logits_rows_.size()); ++r) {
    const int32_t end = plan.get(field::sample_positions)[r].get();
    const auto ends_there = [&](const CpSegment& span) {
      return span.length > RowCount(0) && span.start.get() + span.length.get() == end;
    };
    while (s < shared && !ends_there(spans[static_cast<size_t>(s)])) ++s;
    if (s == shared) return;
    logits_rows_[r] = {.owner = Owner::kLive, .sequence = s++};
  }
}

}  // namespace lockstep
