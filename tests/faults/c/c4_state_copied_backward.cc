// The running state moves to the next block's slot when a step crosses a block boundary. The copy after
// the step computed its destination before its source and wrote the old block's state over the one that
// had just moved. Block 1600, two drafts; a commenter's analysis. vllm-project/vllm#53505.
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

constexpr PageId kBlock0(1), kBlock1(200);  // state slots of the two blocks

Status cross_boundary(const PageCopy& after_the_step) {
  Plans plans;
  plans.run_right({{0, 1599}});
  StepPlan crossing = plans.next({{0, 3}});
  crossing.edit(field::state_write_slots)[2] = StateSlotOrSkip(StateSlot(kBlock1.get()));
  LS_TRY(plans.run(crossing));
  StepPlan plan = plans.next({{0, 1}}, {.bucket = {}, .state_copies = {after_the_step}});
  plan.edit(field::state_read_slot)[0] = StateSlot(kBlock1.get());
  plan.edit(field::state_write_slots)[0] = StateSlotOrSkip(StateSlot(kBlock1.get()));
  return plans.run(plan);
}

Status wrong() { return cross_boundary({kBlock0, kBlock1}); }
Status twin() { return cross_boundary({kBlock1, kBlock0}); }

}  // namespace

const Entry kC4 = {
    .id = "C4",
    .fault_class = 'c',
    .title = "at a block boundary a copy puts the state before it over the state after it",
    .thread = "vllm-project/vllm#53505",
    .expect = {.moment = Moment::kPlan,
               .check = "P5",
               .field = "state_read_slot",
               .row = 0,
               .expected = "the state after 1602 tokens",
               .found = "200, which holds the state after 1599 tokens"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
