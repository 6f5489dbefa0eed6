// Decode graphs were padded to buckets, but offsets, capacities and slots described the live batch. 100
// sequences in a bucket of 112 ended in an illegal access or a collective's error. xLLM-AI/xllm#1939.
#include <vector>

#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kLive = 100, kBucket = 112;

std::vector<Share> one_row_each() {
  std::vector<Share> shares;
  for (int32_t s = 0; s < kLive; ++s) shares.push_back({s, 1});
  return shares;
}

Status wrong() {
  Plans plans;
  StepPlan plan = with_tails(plans.next(one_row_each()), plans.limits(), bucket(kBucket, kBucket, kBucket));
  return plans.run(plan);
}

Status twin() {
  Plans plans;
  StepPlan plan = plans.next(one_row_each(), {.bucket = bucket(kBucket, kBucket, kBucket)});
  return plans.run(plan);
}

}  // namespace

const Entry kD8 = {
    .id = "D8",
    .fault_class = 'd',
    .title = "a decode graph of 112 rows runs with offsets for 100",
    .thread = "xLLM-AI/xllm#1939",
    .expect = {.moment = Moment::kPlan,
               .check = "P1",
               .field = "query_start_loc",
               .row = 112,
               .found = "rows 100..111 belong to no sequence"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
