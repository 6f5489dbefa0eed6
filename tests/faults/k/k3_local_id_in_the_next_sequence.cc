// An index within a sequence was bounded by the extent of the whole batch, after the sequence's offset
// had been added: index 12 of a sequence of 10 reads the neighbour. Shown on slots, where a page is the
// extent of a sequence. NVIDIA/cudnn-frontend#550.
#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

// Keys of a sequence lie from its first page on, as if it had no other.
SlotOrSkip flat_slot(const StepPlan& plan, SlotOrSkip first, int32_t position) {
  const int64_t slot = first.slot() + position;
  const int64_t whole_batch = plan.scalar(field::num_seqs).get() * int64_t{kPageTokens} + kPageTokens;
  return slot < whole_batch ? SlotOrSkip(slot) : SlotOrSkip::skip();
}

Status grow(bool flat) {
  Plans plans;
  StepPlan prefill = plans.next({{0, 15}, {1, 15}});
  const SlotOrSkip first = prefill.get(field::slot_mapping, kKv)[0];
  LS_TRY(plans.run(prefill));
  StepPlan plan = plans.next({{0, 3}, {1, 1}});
  for (size_t row = 0; flat && row < 3; ++row) {
    plan.edit(field::slot_mapping, kKv)[row] = flat_slot(plan, first, plan.get(field::positions)[row].get());
  }
  return plans.run(plan);
}

Status wrong() { return grow(true); }
Status twin() { return grow(false); }

}  // namespace

const Entry kK3 = {
    .id = "K3",
    .fault_class = 'k',
    .title = "an index past its own sequence is an index into the next one",
    .thread = "NVIDIA/cudnn-frontend#550",
    .expect = {.moment = Moment::kPlan,
               .check = "P4",
               .field = "slot_mapping",
               .row = 1,
               .expected = "48 = page 3 * 16 + 0",
               .found = "32"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
