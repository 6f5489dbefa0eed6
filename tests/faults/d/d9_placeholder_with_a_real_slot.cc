// A draft-extend step begins with a row for the token before, which may be a placeholder, but its slot
// was that token's own: good keys were overwritten. Here a token that is not there yet is a TokenSource,
// and -1 is no vocabulary entry. xLLM-AI/xllm#1944.
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

constexpr TokenId kPlaceholder(-1);

Plans attention_only() {
  StepLimits limits = small_limits();
  limits.num_groups = 1;
  return Plans(limits);
}

Status wrong() {
  Plans plans = attention_only();
  plans.run_right({{0, 5}});
  plans.set_length(0, 4);  // the step begins at the token before
  StepPlan plan = plans.next({{0, 2}});
  plan.edit(field::token_ids)[0] = kPlaceholder;
  return plans.run(plan);
}

// The token before is cached: it needs no row.
Status twin() {
  Plans plans = attention_only();
  plans.run_right({{0, 5}});
  StepPlan plan = plans.next({{0, 1}});
  return plans.run(plan);
}

}  // namespace

const Entry kD9 = {
    .id = "D9",
    .fault_class = 'd',
    .title = "a placeholder row overwrites the cached keys of a real token",
    .thread = "xLLM-AI/xllm#1944",
    .expect = {.moment = Moment::kPlan,
               .check = "P1",
               .field = "token_ids",
               .row = 0,
               .expected = "an entry of the vocabulary",
               .found = "-1"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
