// A dummy run padded the number of requests and took the number of tokens as it was: two requests, one
// token. The decode kernel divides one by the other. vllm-project/vllm#34187.
#include <numeric>

#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kRequests = 2;

Status wrong() {
  Plans plans;
  StepPlan plan = with_tails(plans.next({{0, 1}}), plans.limits(), bucket(1, kRequests, 1));
  plan.edit(field::num_seqs)[0] = LiveSeqs(kRequests);
  int32_t begin = 0;
  for (RowOffset& start : plan.edit(field::query_start_loc)) start = RowOffset(begin++);
  return plans.run(plan);
}

Status twin() {
  Plans plans;
  StepPlan plan = plans.next({{0, 1}}, {.bucket = bucket(kRequests, kRequests, 1)});
  return plans.run(plan);
}

}  // namespace

const Entry kD13 = {
    .id = "D13",
    .fault_class = 'd',
    .title = "a dummy run pads its requests to two and its tokens not at all",
    .thread = "vllm-project/vllm#34187",
    .expect = {.moment = Moment::kPlan,
               .check = "P1",
               .field = "query_start_loc",
               .row = 2,
               .expected = "num_rows = 1",
               .found = "rows 1..1 of live sequences count as pads"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
