// The buffer of block offsets lives across steps, and a step writes its live rows only. Rows past them
// kept pages of the step before, where pad rows then wrote, though page 0 is there for them.
// InternLM/lmdeploy#4569.
#include <algorithm>
#include <vector>

#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

Status two_steps(bool zero_first) {
  Plans plans;
  std::vector<TableRow> buffer(4);
  const auto step = [&](StepPlan plan, size_t live) {
    const auto rows = plan.edit(field::table_rows, kKv);
    if (zero_first) std::fill(buffer.begin(), buffer.end(), TableRow(0));
    std::copy(rows.begin(), rows.begin() + static_cast<int64_t>(live), buffer.begin());
    std::copy(buffer.begin(), buffer.end(), rows.begin());
    return plans.run(plan);
  };
  LS_TRY(step(plans.next({{0, 1}, {1, 1}, {2, 1}, {3, 1}}), 4));
  return step(plans.next({{0, 1}, {1, 1}, {2, 1}}, {.bucket = bucket(4, 4, 4)}), 3);
}

Status wrong() { return two_steps(false); }
Status twin() { return two_steps(true); }

}  // namespace

const Entry kD10 = {
    .id = "D10",
    .fault_class = 'd',
    .title = "table rows past the live batch keep the pages of the step before",
    .thread = "InternLM/lmdeploy#4569",
    .expect = {.moment = Moment::kPlan,
               .check = "P11",
               .field = "table_rows",
               .row = 3,
               .expected = "0 in a pad entry",
               .found = "4"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
