// Empty ranks are padded to one fake token: [5, 0, 3] became [5, 1, 3]. Attention needs the padded
// counts, picking the rows for the vocabulary projection needs the raw ones, and one vector carried both.
// Shown on sequences of one batch. xLLM-AI/xllm#2024.
#include <algorithm>

#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kCounts[] = {5, 0, 3};

Status pick_rows(bool padded) {
  Plans plans;
  StepPlan plan =
      plans.next({{0, kCounts[0]}, {1, kCounts[1]}, {2, kCounts[2]}}, {.bucket = bucket(9, 4, 3)});
  size_t picked = 0;
  int32_t row = -1;
  for (const int32_t count : kCounts) {
    row += padded ? std::max(count, 1) : count;
    if (count > 0) plan.edit(field::logits_rows)[picked++] = RowIndex(row);
  }
  return plans.run(plan);
}

Status wrong() { return pick_rows(true); }
Status twin() { return pick_rows(false); }

}  // namespace

const Entry kG8f = {
    .id = "G8f",
    .fault_class = 'g',
    .title = "the rows of the logits are found with counts that were padded for attention",
    .thread = "xLLM-AI/xllm#2024",
    .expect = {.moment = Moment::kPlan,
               .check = "GEO",
               .field = "logits_rows",
               .row = 1,
               .expected = "the last row of a live sequence",
               .found = "8"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
