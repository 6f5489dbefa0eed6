// Two paths place states differently: one slot per draft row, or the request's home slot. Rows that had
// no draft in this step took the second path, though the run is speculative and the next step looks for
// their state by the first. vllm-project/vllm#56531.
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kDrafts[] = {0, 2};

StateSlot draft_slot(size_t sequence, int32_t row) {
  return StateSlot(200 + 8 * static_cast<int32_t>(sequence) + row);
}

Status speculate_twice(bool by_configuration) {
  Plans plans;
  plans.run_right({{0, 4}, {1, 4}});
  StepPlan first = plans.next({{0, 1 + kDrafts[0]}, {1, 1 + kDrafts[1]}});
  size_t row = 0;
  for (size_t s = 0; s < 2; ++s) {
    const bool speculative = by_configuration || kDrafts[s] > 0;
    for (int32_t i = 0; i <= kDrafts[s]; ++i, ++row) {
      if (speculative) first.edit(field::state_write_slots)[row] = StateSlotOrSkip(draft_slot(s, i));
    }
  }
  LS_TRY(plans.run(first));
  StepPlan second = plans.next({{0, 1}, {1, 1}});
  for (size_t s = 0; s < 2; ++s) second.edit(field::state_read_slot)[s] = draft_slot(s, kDrafts[s]);
  return plans.run(second);
}

Status wrong() { return speculate_twice(false); }
Status twin() { return speculate_twice(true); }

}  // namespace

const Entry kJ10 = {
    .id = "J10",
    .fault_class = 'j',
    .title = "rows without drafts put their state where the other path looks for it",
    .thread = "vllm-project/vllm#56531",
    .expect = {.moment = Moment::kPlan,
               .check = "P5",
               .field = "state_read_slot",
               .row = 0,
               .expected = "the state after 5 tokens",
               .found = "which holds no state"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
