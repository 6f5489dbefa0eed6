// An idle rank runs a step of dummy rows. Its slot buffer had been allocated and zeroed, and 0 is page 0,
// offset 0, so the cache write stored garbage there; every unused table entry points at that page. vllm-
// project/vllm#39444.
#include <vector>

#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kRows = 4;

Status idle_step(SlotOrSkip initial) {
  Plans plans;
  StepPlan plan = plans.next({}, {.bucket = bucket(kRows, kRows, 0)});
  const std::vector<SlotOrSkip> buffer(kRows, initial);
  std::copy(buffer.begin(), buffer.end(), plan.edit(field::slot_mapping, kKv).begin());
  return plans.run(plan);
}

Status wrong() { return idle_step(SlotOrSkip(0)); }
Status twin() { return idle_step(SlotOrSkip::skip()); }

}  // namespace

const Entry kD3 = {
    .id = "D3",
    .fault_class = 'd',
    .title = "an idle rank runs with a slot buffer of zeros, and zero is a slot",
    .thread = "vllm-project/vllm#39444",
    .expect = {.moment = Moment::kPlan,
               .check = "P11",
               .field = "slot_mapping",
               .row = 0,
               .expected = "SKIP",
               .found = "0"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
