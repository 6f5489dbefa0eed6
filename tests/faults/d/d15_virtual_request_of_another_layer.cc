// Attention needed its offsets padded with a virtual request. The recurrent layer's convolution took the
// same list for live requests and updated a state for the virtual one. Here live and padded counts are
// types of their own, so only a cast makes one of the other. vllm-project/vllm-ascend#8396.
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

Status wrong() {
  Plans plans;
  StepPlan plan = plans.next({{0, 1}, {1, 1}, {2, 1}}, {.bucket = bucket(4, 4, 4)});
  const PaddedSeqs for_attention = plan.scalar(field::num_seqs_padded);
  plan.edit(field::num_seqs)[0] = LiveSeqs(for_attention.get());
  return plans.run(plan);
}

Status twin() {
  Plans plans;
  StepPlan plan = plans.next({{0, 1}, {1, 1}, {2, 1}}, {.bucket = bucket(4, 4, 4)});
  return plans.run(plan);
}

}  // namespace

const Entry kD15 = {
    .id = "D15",
    .fault_class = 'd',
    .title = "a recurrent layer takes the offsets that were padded for attention",
    .thread = "vllm-project/vllm-ascend#8396",
    .expect = {.moment = Moment::kPlan,
               .check = "P1",
               .field = "query_start_loc",
               .row = 4,
               .expected = "num_rows = 3",
               .found = "rows 3..3 of live sequences count as pads"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
