// Graph padding gave the idle rank a request of length 0. Eagerly, the row of its logits is the
// cumulative sum of [0] minus 1, which is -1 in an empty tensor. Idle is a phase here, not a length. sgl-
// project/sglang#39899.
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

Status wrong() {
  Plans plans;
  StepPlan plan = plans.next({{0, 0}}, {.bucket = bucket(1, 2, 1)});
  const RowOffset end = plan.get(field::query_start_loc)[1];
  plan.edit(field::num_logits_rows)[0] = LiveRows(1);
  plan.edit(field::logits_rows)[0] = RowIndex(end.get() - 1);
  return plans.run(plan);
}

Status twin() {
  Plans plans;
  StepPlan plan = plans.next({}, {.bucket = bucket(1, 2, 1)});
  return plans.run(plan);
}

}  // namespace

const Entry kG6f = {
    .id = "G6f",
    .fault_class = 'g',
    .title = "an idle rank runs a dummy request of length zero",
    .thread = "sgl-project/sglang#39899",
    .expect = {.moment = Moment::kPlan,
               .check = "GEO",
               .field = "logits_rows",
               .row = 0,
               .expected = "the last row of a live sequence",
               .found = "-1"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
