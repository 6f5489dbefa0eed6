// Verification ran one row per draft, and the number of accepted drafts never reached the layer: it went
// on from the state after all of them. The state has no way back. vllm-project/vllm#50272, ggml-
// org/llama.cpp#20075.
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kFirstSlot = 201;  // of the states after each row

// One token and three drafts are verified, each with its state; one draft is accepted.
Status verify_and_go_on(int32_t row_to_go_on_from) {
  Plans plans;
  plans.run_right({{0, 5}});
  StepPlan verify = plans.next({{0, 4}});
  for (int32_t row = 0; row < 4; ++row)
    verify.edit(field::state_write_slots)[static_cast<size_t>(row)] =
        StateSlotOrSkip(StateSlot(kFirstSlot + row));
  LS_TRY(plans.run(verify));
  plans.set_length(0, 7);
  StepPlan plan = plans.next({{0, 1}});
  plan.edit(field::state_read_slot)[0] = StateSlot(kFirstSlot + row_to_go_on_from);
  return plans.run(plan);
}

Status wrong() { return verify_and_go_on(3); }
Status twin() { return verify_and_go_on(1); }

}  // namespace

const Entry kJ9 = {
    .id = "J9",
    .fault_class = 'j',
    .title = "after a rejected draft the state of the last draft is read",
    .thread = "vllm-project/vllm#50272",
    .expect = {.moment = Moment::kPlan,
               .check = "P5",
               .field = "state_read_slot",
               .row = 0,
               .expected = "the state after 7 tokens",
               .found = "the state after 9 tokens"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
