// Under decode context parallelism the decode threshold fell back to 1, while verification had two rows
// per request and the full graph a uniform decode. Any one of the three features off was right. Output
// ended after a character or two. vllm-project/vllm#45425.
#include <algorithm>

#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kDrafts = 1, kThreshold = 1;

Status verify(bool clamp_to_threshold) {
  Plans plans;
  plans.run_right({{0, 9}, {1, 7}});
  StepPlan plan = plans.next({{0, 1 + kDrafts}, {1, 1 + kDrafts}});
  const int32_t rows = clamp_to_threshold ? std::min(1 + kDrafts, kThreshold) : 1 + kDrafts;
  plan.edit(field::uniform_query_len)[0] = RowCount(rows);
  return plans.run(plan);
}

Status wrong() { return verify(true); }
Status twin() { return verify(false); }

}  // namespace

const Entry kF8 = {
    .id = "F8",
    .fault_class = 'f',
    .title = "draft rows run as decode rows of length one",
    .thread = "vllm-project/vllm#45425",
    .expect = {.moment = Moment::kPlan,
               .check = "GEO",
               .field = "uniform_query_len",
               .expected = "2, the rows of every sequence",
               .found = "1"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
