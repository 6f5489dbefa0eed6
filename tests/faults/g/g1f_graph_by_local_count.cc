// The idle rank chose a graph for its one dummy row, the others for the synchronised count. Inside, the
// collectives had different sizes, and the group hung. vllm-project/vllm#25906.
#include <algorithm>
#include <vector>

#include "contract/agreement.h"
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kSizes[] = {1, 2, 4, 8};  // rows of the captured graphs
constexpr int32_t kRows[] = {1, 7};         // of the ranks; the first one has nothing to do

int32_t graph_for(int32_t rows) { return *std::lower_bound(std::begin(kSizes), std::end(kSizes), rows); }

Status step(bool by_own_rows) {
  std::vector<RankFacts> ranks;
  for (int32_t rank = 0; rank < 2; ++rank) {
    const int32_t size =
        graph_for(by_own_rows ? kRows[rank] : *std::max_element(std::begin(kRows), std::end(kRows)));
    Plans plans;
    std::vector<Share> shares;
    for (int32_t s = 0; rank > 0 && s < kRows[rank]; ++s) shares.push_back({s, 1});
    StepPlan plan = plans.next(shares, {.bucket = bucket(size, size, size)});
    LS_TRY(plans.run(plan));
    ranks.push_back(facts_of(plan, rank));
    ranks.back().graph_key = static_cast<uint64_t>(size);
  }
  return agree(ranks, RankGroup::kData);
}

Status wrong() { return step(true); }
Status twin() { return step(false); }

}  // namespace

const Entry kG1f = {
    .id = "G1f",
    .fault_class = 'g',
    .title = "an idle rank chooses its graph by its own row count",
    .thread = "vllm-project/vllm#25906",
    .expect = {.moment = Moment::kGroup, .check = "G1", .field = "dp_row_counts", .found = "on rank 1"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
