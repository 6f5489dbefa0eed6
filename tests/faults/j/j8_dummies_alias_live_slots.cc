// No slot was reserved for padding dummies. The update went through the cache's own list of indices,
// whose tail past the live requests wraps around into their slots. NVIDIA/TensorRT-LLM#13278.
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kBucket = 6, kCapacity = 4;

Status wrong() {
  Plans plans;
  StepPlan plan = plans.next({{0, 1}, {1, 1}, {2, 1}, {3, 1}}, {.bucket = bucket(kBucket, kBucket, kBucket)});
  int32_t index = 0;
  for (StateSlotOrSkip& slot : plan.edit(field::state_write_slots))
    slot = StateSlotOrSkip(StateSlot(index++ % kCapacity + 1));
  return plans.run(plan);
}

Status twin() {
  Plans plans;
  StepPlan plan = plans.next({{0, 1}, {1, 1}, {2, 1}, {3, 1}}, {.bucket = bucket(kBucket, kBucket, kBucket)});
  return plans.run(plan);
}

}  // namespace

const Entry kJ8 = {
    .id = "J8",
    .fault_class = 'j',
    .title = "padding dummies update the states of live requests",
    .thread = "NVIDIA/TensorRT-LLM#13278",
    .expect = {.moment = Moment::kPlan,
               .check = "P11",
               .field = "state_write_slots",
               .row = 4,
               .expected = "SKIP",
               .found = "1"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
