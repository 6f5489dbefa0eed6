// A predicate per graph said that buckets may differ between ranks, because the expert exchange tolerates
// that. One dense layer gathers over the whole group with equal counts. Here each collective says whether
// counts may differ. sgl-project/sglang#37561.
#include <algorithm>
#include <vector>

#include "contract/agreement.h"
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kRows[] = {5, 3};
constexpr int64_t kWidth = 64;

Status step(bool own_buckets) {
  std::vector<RankFacts> ranks;
  for (int32_t rank = 0; rank < 2; ++rank) {
    const int32_t rows = own_buckets ? kRows[rank] : std::max(kRows[0], kRows[1]);
    StepLimits limits = small_limits();
    limits.dp_ranks = 2;
    Plans plans(limits);
    StepPlan plan = plans.next({{0, kRows[rank]}}, {.bucket = bucket(rows, 2, 1)});
    // The ranks have told each other how many rows each one has.
    for (size_t r = 0; own_buckets && r < 2; ++r) plan.edit(field::dp_row_counts)[r] = PaddedRows(kRows[r]);
    LS_TRY(plans.run(plan));
    ranks.push_back(facts_of(plan, rank));
    RankFacts& facts = ranks.back();
    facts.add(CollectiveFact{
        .op = "all_to_all", .group = "ep", .dtype = DType::kBF16, .count = rows * kWidth, .any_count = true});
    facts.add(
        CollectiveFact{.op = "all_gather", .group = "dp", .dtype = DType::kBF16, .count = rows * kWidth});
  }
  return agree(ranks, RankGroup::kData);
}

Status wrong() { return step(true); }
Status twin() { return step(false); }

}  // namespace

const Entry kG5f = {
    .id = "G5f",
    .fault_class = 'g',
    .title = "each rank runs the bucket of its own rows, and one layer gathers all of them densely",
    .thread = "sgl-project/sglang#37561",
    .expect = {.moment = Moment::kGroup,
               .check = "G1",
               .field = "collectives[1]",
               .expected = "all_gather in dp of 320 bf16",
               .found = "all_gather in dp of 192 bf16 on rank 1"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
