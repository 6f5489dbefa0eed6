// A graph pads a decode batch to the next captured size. The phantom row kept the state index of the
// request that had stood there; its NaN went into that state and from there into later requests. Two
// requests were enough, one had a graph of its own and stayed healthy. local-inference-lab/vllm#621.
#include <algorithm>
#include <vector>

#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

constexpr size_t kBucket = 4;

Status two_replays(bool reset) {
  Plans plans;
  std::vector<StateSlot> bindings(kBucket);  // as the graph holds them
  const auto step = [&](StepPlan plan, size_t live) {
    const auto slots = plan.edit(field::state_read_slot);
    if (reset) std::fill(bindings.begin(), bindings.end(), StateSlot(0));
    std::copy(slots.begin(), slots.begin() + static_cast<int64_t>(live), bindings.begin());
    std::copy(bindings.begin(), bindings.end(), slots.begin());
    return plans.run(plan);
  };
  LS_TRY(step(plans.next({{0, 1}, {1, 1}, {2, 1}, {3, 1}}), kBucket));
  return step(plans.next({{0, 1}, {1, 1}, {2, 1}}, {.bucket = bucket(kBucket, kBucket, kBucket)}), 3);
}

Status wrong() { return two_replays(false); }
Status twin() { return two_replays(true); }

}  // namespace

const Entry kJ13 = {
    .id = "J13",
    .fault_class = 'j',
    .title = "the phantom row of a decode graph still names the state of the request that was there",
    .thread = "local-inference-lab/vllm#621",
    .expect = {.moment = Moment::kPlan,
               .check = "P11",
               .field = "state_read_slot",
               .row = 3,
               .expected = "0 in a pad entry",
               .found = "4"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
