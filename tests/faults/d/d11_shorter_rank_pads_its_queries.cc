// With the rows of all ranks laid out for the longest, the shorter rank padded its query tensor and left
// the offsets alone. The kernel computed the rows that have an owner, and NaN from the others went
// through the residual into an index. Its plan is shown here. sgl-project/sglang#28487.
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kLongest = 5, kOwn = 3;

Status wrong() {
  Plans plans;
  StepPlan plan = with_tails(plans.next({{0, kOwn}}), plans.limits(), bucket(kLongest, 1, 1));
  return plans.run(plan);
}

Status twin() {
  Plans plans;
  StepPlan plan = plans.next({{0, kOwn}}, {.bucket = bucket(kLongest, 2, 1)});
  return plans.run(plan);
}

}  // namespace

const Entry kD11 = {
    .id = "D11",
    .fault_class = 'd',
    .title = "the shorter of two ranks pads its queries and nothing else",
    .thread = "sgl-project/sglang#28487",
    .expect = {.moment = Moment::kPlan,
               .check = "P1",
               .field = "query_start_loc",
               .row = 1,
               .found = "rows 3..4 belong to no sequence"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
