// The row count was raised to that of the widest data-parallel rank, the offsets were not. Attention
// wrote 26 of 30 rows, and the four that nobody owned brought NaN into the next layer and the expert
// exchange. hongbolv/vllm#21, with the report's own numbers.
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kWidest = 30;  // rows of the widest rank

// The padder knows one count for all ranks and sets it; sequences and offsets stay those of this rank.
Status padded(std::initializer_list<Share> shares) {
  Plans plans;
  StepPlan plan = with_tails(plans.next(shares), plans.limits(), bucket(kWidest, 4, 4));
  plan.edit(field::num_rows)[0] = LiveRows(kWidest);
  return plans.run(plan);
}

Status wrong() { return padded({{0, 5}, {1, 5}, {2, 8}, {3, 8}}); }

// The widest rank is right as it is. The other one's missing rows are a sequence of their own, and not live.
Status twin() {
  LS_TRY(padded({{0, 7}, {1, 5}, {2, 11}, {3, 7}}));
  Plans plans;
  StepPlan plan = plans.next({{0, 5}, {1, 5}, {2, 8}, {3, 8}}, {.bucket = bucket(kWidest, 5, 4)});
  return plans.run(plan);
}

}  // namespace

const Entry kD1 = {
    .id = "D1",
    .fault_class = 'd',
    .title = "a rank counts the rows of data-parallel padding as live, and its offsets end before them",
    .thread = "hongbolv/vllm#21",
    .expect = {.moment = Moment::kPlan,
               .check = "P1",
               .field = "query_start_loc",
               .row = 4,
               .expected = "num_rows = 30",
               .found = "26, so rows 26..29 belong to no sequence"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
