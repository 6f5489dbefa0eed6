// Draft verification needs a state slot per token; the metadata had one per request and was indexed by
// row. In the plan the field is per row, so the list has to be stretched to be wrong. xLLM-AI/xllm#2347.
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kRequests = 2, kTokens = 3;

Status verify(bool per_token) {
  Plans plans;
  plans.run_right({{0, 4}, {1, 4}});
  StepPlan plan = plans.next({{0, kTokens}, {1, kTokens}});
  const auto slots = plan.edit(field::state_write_slots);
  const auto homes = plan.get(field::state_read_slot);
  for (size_t row = 0; row < slots.size(); ++row) {
    if (per_token)
      slots[row] = StateSlotOrSkip(StateSlot(200 + static_cast<int32_t>(row)));
    else
      slots[row] = row < kRequests ? StateSlotOrSkip(homes[row]) : StateSlotOrSkip::skip();
  }
  return plans.run(plan);
}

Status wrong() { return verify(false); }
Status twin() { return verify(true); }

}  // namespace

const Entry kJ12 = {
    .id = "J12",
    .fault_class = 'j',
    .title = "verification has three rows per request, and state slots one",
    .thread = "xLLM-AI/xllm#2347",
    .expect = {.moment = Moment::kPlan,
               .check = "P5",
               .field = "state_write_slots",
               .row = 1,
               .expected = "a state slot that no sequence but 0 reads",
               .found = "2, the state slot of sequence 1"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
