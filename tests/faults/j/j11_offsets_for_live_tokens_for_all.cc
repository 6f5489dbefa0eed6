// Tokens were padded to the bucket, offsets covered the live requests only; the convolution's tiling
// failed on the rows between. xLLM-AI/xllm#1529.
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kBucket = 4;

Status wrong() {
  Plans plans;
  StepPlan plan =
      with_tails(plans.next({{0, 1}, {1, 1}, {2, 1}}), plans.limits(), bucket(kBucket, kBucket, kBucket));
  return plans.run(plan);
}

Status twin() {
  Plans plans;
  StepPlan plan = plans.next({{0, 1}, {1, 1}, {2, 1}}, {.bucket = bucket(kBucket, kBucket, kBucket)});
  return plans.run(plan);
}

}  // namespace

const Entry kJ11 = {
    .id = "J11",
    .fault_class = 'j',
    .title = "the decode convolution gets padded tokens with the offsets of live requests",
    .thread = "xLLM-AI/xllm#1529",
    .expect = {.moment = Moment::kPlan,
               .check = "P1",
               .field = "query_start_loc",
               .row = 4,
               .expected = "num_rows_padded = 4",
               .found = "rows 3..3 belong to no sequence"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
