// The decoder's token count masked the routing of the draft head, whose rows are requests: 12 for 3 rows,
// so the mask never fired and pad rows took experts. Each pass has a plan of its own here.
// NVIDIA/Megatron-LM#4922.
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

Status draft_pass(bool count_of_the_decoder) {
  Plans plans;
  StepPlan decoder = plans.next({{0, 4}, {1, 4}, {2, 4}});
  LS_TRY(plans.run(decoder));
  StepPlan draft = plans.next({{0, 1}, {1, 1}, {2, 1}});
  if (count_of_the_decoder) draft.edit(field::num_rows)[0] = decoder.scalar(field::num_rows);
  return plans.run(draft);
}

Status wrong() { return draft_pass(true); }
Status twin() { return draft_pass(false); }

}  // namespace

const Entry kL4m = {
    .id = "L4m",
    .fault_class = 'l',
    .title = "the routing mask of a draft pass has the row count of the pass before it",
    .thread = "NVIDIA/Megatron-LM#4922",
    .expect =
        {.moment = Moment::kPlan, .check = "P10", .field = "num_rows", .expected = "0..3", .found = "12"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
