// A row of more queries than there are keys sees no key at all: with -inf for the mask, -inf minus -inf is
// NaN; with a large finite number in its place, logits below that number vanish. That a row exists before the
// keys that it has put there is a slip of the plan. flashinfer-ai/flashinfer#4401.
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

Status prefill(bool one_key_short) {
  Plans plans;
  StepPlan plan = plans.next({{0, 4}, {1, 3}});
  if (one_key_short) plan.edit(field::seq_lens)[1] = TokenCount(2);
  return plans.run(plan);
}

Status wrong() { return prefill(true); }
Status twin() { return prefill(false); }

}  // namespace

const Entry kM1 = {
    .id = "M1",
    .fault_class = 'm',
    .title = "a sequence has more queries than keys, and its first row sees none",
    .thread = "flashinfer-ai/flashinfer#4401",
    .expect = {.moment = Moment::kPlan,
               .check = "P2",
               .field = "seq_lens",
               .row = 1,
               .expected = "3 = computed 0 + rows 3",
               .found = "2"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
