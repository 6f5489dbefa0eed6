// At capture one branch reused a length buffer of zeros; the replay path filled it. Attention over no
// keys gave NaN in some tiles and zeros in others. sgl-project/sglang#26521.
#include <algorithm>
#include <vector>

#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

Status capture(bool copy_lengths) {
  Plans plans;
  StepPlan plan = plans.next({{0, 1}, {1, 1}});
  const auto lengths = plan.edit(field::seq_lens);
  std::vector<TokenCount> buffer(lengths.size());
  if (copy_lengths) std::copy(lengths.begin(), lengths.end(), buffer.begin());
  std::copy(buffer.begin(), buffer.end(), lengths.begin());
  return plans.run(plan);
}

Status wrong() { return capture(false); }
Status twin() { return capture(true); }

}  // namespace

const Entry kM3 = {
    .id = "M3",
    .fault_class = 'm',
    .title = "a graph is captured with lengths of zero",
    .thread = "sgl-project/sglang#26521",
    .expect = {.moment = Moment::kPlan,
               .check = "P2",
               .field = "seq_lens",
               .row = 0,
               .expected = "1 = computed 0 + rows 1",
               .found = "0"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
