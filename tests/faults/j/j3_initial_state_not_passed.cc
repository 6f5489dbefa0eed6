// The convolution was not told which requests have a state: it took whatever lay in the slot for one. A
// new request began with another's past, and wrote off-topic answers under concurrency. sgl-
// project/sglang#24717.
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

// One request goes on, another begins in a slot that had an owner before.
Status mixed_step(bool from_prefix_length) {
  Plans plans;
  plans.run_right({{0, 20}, {1, 20}});
  plans.restart(1);
  StepPlan plan = plans.next({{0, 1}, {1, 8}});
  const auto computed = plan.get(field::computed_lens);
  const auto flags = plan.edit(field::has_initial_state);
  for (size_t s = 0; s < flags.size(); ++s)
    flags[s] = from_prefix_length ? (computed[s] > TokenCount(0) ? 1 : 0) : 1;
  return plans.run(plan);
}

Status wrong() { return mixed_step(false); }
Status twin() { return mixed_step(true); }

}  // namespace

const Entry kJ3 = {
    .id = "J3",
    .fault_class = 'j',
    .title = "a fresh request takes over what its slot held before",
    .thread = "sgl-project/sglang#24717",
    .expect = {.moment = Moment::kPlan,
               .check = "P5",
               .field = "has_initial_state",
               .row = 1,
               .expected = "0 after 0 computed tokens",
               .found = "1"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
