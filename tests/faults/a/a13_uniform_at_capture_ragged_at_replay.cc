// The query offsets were an arithmetic sequence at capture and a cumulative sum of accepted counts at
// replay. Other arithmetic of the graph still assumed the one step. The uniform length is a fact of the
// graph's key here, and the plan says what it is. sgl-project/sglang#21987, #19807.
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

constexpr RowCount kCaptured{3};  // rows of every sequence when the graph was captured

Status replay(std::initializer_list<Share> accepted) {
  Plans plans;
  StepPlan plan = plans.next(accepted);
  plan.edit(field::uniform_query_len)[0] = kCaptured;
  return plans.run(plan);
}

Status wrong() { return replay({{0, 1}, {1, 3}, {2, 2}}); }
Status twin() { return replay({{0, 3}, {1, 3}, {2, 3}}); }

}  // namespace

const Entry kA13 = {
    .id = "A13",
    .fault_class = 'a',
    .title = "a graph was captured with uniform query lengths and is replayed with ragged ones",
    .thread = "sgl-project/sglang#21987",
    .expect = {.moment = Moment::kPlan,
               .check = "GEO",
               .field = "uniform_query_len",
               .expected = "0, as the sequences differ",
               .found = "3"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
