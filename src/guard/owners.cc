#include "guard/owners.h"

#include <algorithm>

namespace lockstep {

void Owners::read(const StepPlan& plan) {
  const Bucket& bucket = plan.bucket();
  rows_.assign(static_cast<size_t>(bucket.rows.get()), {});
  sequences_.assign(static_cast<size_t>(bucket.seqs.get()), {});
  logits_rows_.assign(static_cast<size_t>(bucket.logits_rows.get()), {.owner = Owner::kPad});
  const int32_t live = plan.scalar(field::num_seqs).get();
  const auto starts = plan.get(field::query_start_loc);
  const auto num_rows = static_cast<int32_t>(rows_.size());
  for (int32_t s = 0; s < static_cast<int32_t>(sequences_.size()); ++s) {
    const OwnedEntry entry{.owner = s < live ? Owner::kLive : Owner::kPad, .sequence = s};
    sequences_[static_cast<size_t>(s)] = entry;
    const int32_t begin = std::clamp(starts[static_cast<size_t>(s)].get(), 0, num_rows);
    const int32_t end = std::clamp(starts[static_cast<size_t>(s) + 1].get(), begin, num_rows);
    std::fill(rows_.begin() + begin, rows_.begin() + end, entry);
  }
  const auto logits = plan.get(field::logits_rows);
  for (size_t r = 0; r < logits_rows_.size(); ++r) {
    const int32_t row = logits[r].get();
    if (row < 0 || row >= num_rows) continue;
    const OwnedEntry& owner = rows_[static_cast<size_t>(row)];
    if (owner.owner == Owner::kLive) logits_rows_[r] = owner;
  }
}

}  // namespace lockstep
