// Owners: who each row, sequence and logits row of a step belongs to. Computed from where sequences begin and
// end, never from a row count, so that a plan whose count is wrong cannot hide the rows that nobody owns.
#pragma once

#include <span>
#include <vector>

#include "guard/record_kinds.h"
#include "plan/step_plan.h"

namespace lockstep {

struct OwnedEntry {
  Owner owner = Owner::kUnowned;
  int32_t sequence = -1;  // in the plan's order; of live and pad entries. Both chunks of one have its number
  bool operator==(const OwnedEntry&) const = default;
};

// Trusts no field to be in range. Thread: one owner.
class Owners {
 public:
  // Cost: O(rows), no allocation once warm.
  void read(const StepPlan& plan);

  std::span<const OwnedEntry> rows() const { return rows_; }            // of the bucket
  std::span<const OwnedEntry> sequences() const { return sequences_; }  // of the bucket
  // Of the bucket: live where the entry names a live row, pad otherwise.
  std::span<const OwnedEntry> logits_rows() const { return logits_rows_; }

 private:
  void read_shared_logits(const StepPlan& plan);

  std::vector<OwnedEntry> rows_;
  std::vector<OwnedEntry> sequences_;
  std::vector<OwnedEntry> logits_rows_;
};

}  // namespace lockstep
