// The buffer took the longest length when the metadata was set up; the kernels use the live lengths. When
// steps overlap the two differ and scores are written past the end: mostly a wrong selection, rarely a
// page fault. sgl-project/sglang#31133.
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

Status decode(bool snapshot) {
  Plans plans;
  plans.run_right({{0, 30}, {1, 20}});
  const StepPlan setup = plans.next({{0, 1}, {1, 1}});
  StepPlan first = setup;
  LS_TRY(plans.run(first));
  StepPlan plan = plans.next({{0, 1}, {1, 1}});
  if (snapshot) plan.edit(field::max_seq_len)[0] = setup.scalar(field::max_seq_len);
  return plans.run(plan);
}

Status wrong() { return decode(true); }
Status twin() { return decode(false); }

}  // namespace

const Entry kK1 = {
    .id = "K1",
    .fault_class = 'k',
    .title = "a score buffer is sized by the longest sequence at set-up and indexed by live lengths",
    .thread = "sgl-project/sglang#31133",
    .expect = {.moment = Moment::kPlan,
               .check = "P2",
               .field = "max_seq_len",
               .expected = "32, the largest of seq_lens",
               .found = "31"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
