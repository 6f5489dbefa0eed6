// Two cache groups have slot buffers that live across replays. The tail of the main one was reset when a
// smaller batch came, the window's was not, and the captured write stored pad rows into live slots of
// other requests. sgl-project/sglang#24743.
#include <algorithm>
#include <vector>

#include "faults/entries.h"
#include "faults/plans.h"

namespace lockstep::faults {
namespace {

// A buffer of slots as a graph keeps it: a step writes its own rows and, if told to, resets the rest.
class SlotBuffer {
 public:
  void fill(std::span<const SlotOrSkip> slots, bool reset_tail) {
    if (reset_tail) std::fill(slots_.begin(), slots_.end(), SlotOrSkip::skip());
    std::copy(slots.begin(), slots.end(), slots_.begin());
  }
  void put_into(std::span<SlotOrSkip> field) const { std::copy(slots_.begin(), slots_.end(), field.begin()); }

 private:
  std::vector<SlotOrSkip> slots_ = std::vector<SlotOrSkip>(4);
};

Status two_replays(bool reset_window) {
  Plans plans;
  SlotBuffer main, window;
  const auto step = [&](StepPlan plan, size_t rows) {
    main.fill(plan.get(field::slot_mapping, kKv).first(rows), true);
    window.fill(plan.get(field::slot_mapping, kWindow).first(rows), reset_window);
    main.put_into(plan.edit(field::slot_mapping, kKv));
    window.put_into(plan.edit(field::slot_mapping, kWindow));
    return plans.run(plan);
  };
  LS_TRY(step(plans.next({{0, 1}, {1, 1}, {2, 1}, {3, 1}}), 4));
  return step(plans.next({{0, 1}, {1, 1}, {2, 1}}, {.bucket = bucket(4, 4, 4)}), 3);
}

Status wrong() { return two_replays(false); }
Status twin() { return two_replays(true); }

}  // namespace

const Entry kD5 = {
    .id = "D5",
    .fault_class = 'd',
    .title = "the slots of the sliding-window cache keep the last replay's tail",
    .thread = "sgl-project/sglang#24743",
    .expect =
        {.moment = Moment::kPlan, .check = "P11", .field = "slot_mapping", .row = 3, .expected = "SKIP"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
