// A kernel that cannot skip got -1 clamped to 0, and the allocator handed out slot 0 too: every pad row
// updated the state of the request that lived there. Accuracy fell slowly. Here slot 0 is nobody's.
// lightseekorg/tokenspeed#700.
#include <algorithm>

#include "cache/slot_pool.h"
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

// Puts each sequence's state where `slot_of` says, and the pads where the clamp puts them.
template <typename SlotOf>
Status decode(SlotOf slot_of, int32_t pad) {
  Plans plans;
  StepPlan plan = plans.next({{0, 1}, {1, 1}, {2, 1}}, {.bucket = bucket(4, 4, 4)});
  for (size_t s = 0; s < 3; ++s) {
    const StateSlot slot = slot_of();
    plan.edit(field::state_read_slot)[s] = slot;
    plan.edit(field::state_write_slots)[s] = StateSlotOrSkip(slot);
  }
  if (pad >= 0) plan.edit(field::state_write_slots)[3] = StateSlotOrSkip(StateSlot(pad));
  return plans.run(plan);
}

Status wrong() {
  int32_t next = 0;  // slots are handed out from the first one on
  return decode([&] { return StateSlot(next++); }, std::max(-1, 0));
}

Status twin() {
  StatePool pool(8);
  return decode([&] { return *pool.allocate(); }, -1);
}

}  // namespace

const Entry kJ2 = {
    .id = "J2",
    .fault_class = 'j',
    .title = "the pad index -1 is clamped to 0, and slot 0 belongs to a request",
    .thread = "lightseekorg/tokenspeed#700",
    .expect = {.moment = Moment::kPlan,
               .check = "P5",
               .field = "state_read_slot",
               .row = 0,
               .expected = "a state slot of 1..",
               .found = "0"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
