// The flag of a feature was taken for the predicate "this batch has prefix slots". With context
// parallelism and that feature on, a batch without a prefix read one, and output repeated itself. A
// predicate is read from the plan. xLLM-AI/xllm#1587.
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

constexpr bool kSplitsKv = true;  // the feature is on

Status prefill(bool by_feature) {
  Plans plans;
  StepPlan plan = plans.next({{0, 40}});
  const bool cached = plan.get(field::computed_lens)[0] > TokenCount(0);
  plan.edit(field::has_initial_state)[0] = (by_feature ? kSplitsKv : cached) ? 1 : 0;
  return plans.run(plan);
}

Status wrong() { return prefill(true); }
Status twin() { return prefill(false); }

}  // namespace

const Entry kF7 = {
    .id = "F7",
    .fault_class = 'f',
    .title = "a feature flag stands in for the question whether a batch has a cached prefix",
    .thread = "xLLM-AI/xllm#1587",
    .expect = {.moment = Moment::kPlan,
               .check = "P5",
               .field = "has_initial_state",
               .row = 0,
               .expected = "0 after 0 computed tokens",
               .found = "1"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
