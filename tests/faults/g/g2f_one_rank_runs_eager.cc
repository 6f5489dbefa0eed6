// Graphs served decode only, and a rank without a valid one ran eagerly, with another padded count than
// its peers. The mode was no part of what the ranks had agreed on. vllm-project/vllm#30173.
#include <vector>

#include "contract/agreement.h"
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

constexpr uint64_t kEager = 0;

Status step(bool fall_back_together) {
  constexpr uint64_t kOwn[] = {0x51, kEager, 0x51};  // the graph that each rank has
  bool all = true;
  for (const uint64_t graph : kOwn) all = all && graph != kEager;
  std::vector<RankFacts> ranks;
  for (int32_t rank = 0; rank < 3; ++rank) {
    Plans plans;
    StepPlan plan = plans.next({{0, 1}, {1, 1}});
    LS_TRY(plans.run(plan));
    ranks.push_back(facts_of(plan, rank));
    ranks.back().graph_key = fall_back_together && !all ? kEager : kOwn[rank];
  }
  return agree(ranks, RankGroup::kData);
}

Status wrong() { return step(false); }
Status twin() { return step(true); }

}  // namespace

const Entry kG2f = {
    .id = "G2f",
    .fault_class = 'g',
    .title = "one rank has no graph for the step and runs it eagerly, the others replay",
    .thread = "vllm-project/vllm#30173",
    .expect = {.moment = Moment::kGroup,
               .check = "G1",
               .field = "graph_key",
               .expected = "graph 51, as on rank 0",
               .found = "eager on rank 1"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
