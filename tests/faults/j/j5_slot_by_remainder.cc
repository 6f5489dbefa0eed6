// Live requests whose ids have the same remainder shared a state. An allocator cured it until another
// path of ending a request forgot to release, and the fallback was the remainder again. kekzl/imp#500.
#include "cache/slot_pool.h"
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kCapacity = 4;
constexpr int32_t kIds[] = {1, 5};

template <typename SlotOf>
Status prefill(SlotOf slot_of) {
  Plans plans;
  StepPlan plan = plans.next({{0, 3}, {1, 3}});
  for (size_t s = 0; s < 2; ++s) {
    const StateSlot slot = slot_of(kIds[s]);
    plan.edit(field::state_read_slot)[s] = slot;
    plan.edit(field::state_write_slots)[3 * s + 2] = StateSlotOrSkip(slot);
  }
  return plans.run(plan);
}

Status wrong() {
  return prefill([](int32_t id) { return StateSlot(id % kCapacity); });
}

Status twin() {
  StatePool pool(kCapacity + 1);
  return prefill([&](int32_t) { return *pool.allocate(); });
}

}  // namespace

const Entry kJ5 = {
    .id = "J5",
    .fault_class = 'j',
    .title = "state slots are request ids modulo the capacity",
    .thread = "kekzl/imp#500",
    .expect = {.moment = Moment::kPlan,
               .check = "P5",
               .field = "state_read_slot",
               .row = 1,
               .expected = "a state slot of its own",
               .found = "1, the state slot of sequence 0"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
