// Survival scores of drafts differed between ranks in the third decimal, 0.416 and 0.417, around the
// threshold. The ranks chose different budgets and graphs, and hung with all devices busy. What comes
// from floats is decided on one rank. sgl-project/sglang#31195.
#include <vector>

#include "contract/agreement.h"
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

constexpr float kThreshold = 0.4165f;
constexpr float kScores[2][3] = {{0.9f, 0.7f, 0.417f}, {0.9f, 0.7f, 0.416f}};  // [ranks][drafts]

int32_t budget_of(int32_t rank) {
  int32_t budget = 0;
  for (const float score : kScores[rank]) budget += score > kThreshold ? 1 : 0;
  return budget;
}

Status verify(bool one_decides) {
  std::vector<RankFacts> ranks;
  for (int32_t rank = 0; rank < 2; ++rank) {
    Plans plans;
    plans.run_right({{0, 6}});
    StepPlan plan = plans.next({{0, 1 + budget_of(one_decides ? 0 : rank)}});
    LS_TRY(plans.run(plan));
    ranks.push_back(facts_of(plan, rank));
  }
  return agree(ranks, RankGroup::kTensor);
}

Status wrong() { return verify(false); }
Status twin() { return verify(true); }

}  // namespace

const Entry kG4f = {
    .id = "G4f",
    .fault_class = 'g',
    .title = "each tensor-parallel rank computes the draft budget from its own floats",
    .thread = "sgl-project/sglang#31195",
    .expect = {.moment = Moment::kGroup,
               .check = "G1",
               .field = "num_rows",
               .expected = "4, as on rank 0",
               .found = "3 on rank 1"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
