// Validation: holds a plan to every rule stated about it, with code of its own. It shares nothing with the
// builder and keeps its own copy of the page tables, made from the edits alone, as a device does.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "plan/step_plan.h"

namespace lockstep {

// The first rule that a plan breaks, and where.
struct Violation {
  std::string_view check;  // "P1"
  FieldId field = FieldId::token_ids;
  int32_t index = -1;  // row, sequence, logits row or entry, as the field's form says
  GroupId group;
  std::string expected;
  std::string found;
};

// "plan 17: P4 slot_mapping[3] of group 0 is 130; expected page 8 * 16 + 3 = 131 ..."
std::string describe(const Violation& violation, Epoch epoch);

// Thread: one owner. Cost: O(rows + edits), no allocation unless a rule is broken.
class PlanValidator {
 public:
  explicit PlanValidator(const StepLimits& limits);

  // ok, or kInternal with describe(violation). A valid plan's edits are applied to the validator's tables; a
  // broken plan leaves them as they were.
  Status validate(const StepPlan& plan);
  const Violation& violation() const { return violation_; }

 private:
  StepLimits limits_;
  Violation violation_;
  struct Table {
    std::vector<PageId> entries;  // [rows, max_pages]
  };
  std::vector<Table> tables_;   // per group
  std::vector<uint32_t> seen_;  // scratch: stamps for uniqueness, per page or slot
  uint32_t stamp_ = 0;
};

}  // namespace lockstep
