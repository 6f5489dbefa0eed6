// A preempted request begins again at position 0. Attention does not mind, its keys are overwritten; the
// recurrent slot kept the state from the middle of the sequence. vllm-project/vllm-metal#488.
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

Status preempt_and_resume(bool by_request) {
  Plans plans;
  bool has_run = false;  // what the request remembers about itself
  plans.run_right({{0, 5}});
  has_run = true;
  plans.restart(0);
  StepPlan plan = plans.next({{0, 5}});
  const bool has_tokens = plan.get(field::computed_lens)[0] > TokenCount(0);
  plan.edit(field::has_initial_state)[0] = (by_request ? has_run : has_tokens) ? 1 : 0;
  return plans.run(plan);
}

Status wrong() { return preempt_and_resume(true); }
Status twin() { return preempt_and_resume(false); }

}  // namespace

const Entry kJ4 = {
    .id = "J4",
    .fault_class = 'j',
    .title = "a preempted request is computed anew on top of its old state",
    .thread = "vllm-project/vllm-metal#488",
    .expect = {.moment = Moment::kPlan,
               .check = "P5",
               .field = "has_initial_state",
               .row = 0,
               .expected = "0 after 0 computed tokens"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
