// StatePool: which recurrent state slots are free. A slot has one owner; nothing is shared, because a state
// is overwritten in place. The same class hands out table rows and penalty slots, which obey the same rule.
#pragma once

#include <cstdint>
#include <vector>

#include "base/check.h"
#include "base/status.h"
#include "base/units.h"

namespace lockstep {

// Ids 1..count-1 are handed out; id 0 is reserved for padding. A slot that was handed out again holds its
// former owner's bytes: the plan's has_initial_state = 0 is what makes them unreadable. Thread: one owner,
// the engine's. Cost: O(1).
template <typename Id>
class SlotPool {
 public:
  // count >= 1, the reserved id included.
  explicit SlotPool(int32_t count) {
    LS_CHECK(count >= 1, "a pool of ", count, " slots");
    owned_.resize(static_cast<size_t>(count));
    free_.reserve(static_cast<size_t>(count) - 1);
    for (int32_t id = count - 1; id > 0; --id) free_.emplace_back(id);
  }

  int32_t available() const { return static_cast<int32_t>(free_.size()); }
  int32_t capacity() const { return static_cast<int32_t>(owned_.size()) - 1; }

  // Errors: kResourceExhausted when none is left.
  Result<Id> allocate() {
    if (free_.empty()) {
      return error(Code::kResourceExhausted, "slot pool: all ", capacity(),
                   " slots are held; release one first");
    }
    const Id id = free_.back();
    free_.pop_back();
    owned_[static_cast<size_t>(id.get())] = true;
    return id;
  }
  void release(Id id) {
    LS_CHECK(id.get() > 0 && id.get() < static_cast<int32_t>(owned_.size()) && owned(id), "slot ", id, " of ",
             owned_.size(), " is not held");
    owned_[static_cast<size_t>(id.get())] = false;
    free_.push_back(id);
  }
  bool owned(Id id) const { return owned_[static_cast<size_t>(id.get())]; }
  bool idle() const { return available() == capacity(); }

 private:
  std::vector<Id> free_;  // last in, first out
  std::vector<bool> owned_;
};

using StatePool = SlotPool<StateSlot>;
using TableRowPool = SlotPool<TableRow>;
using PenaltySlotPool = SlotPool<PenaltySlot>;

}  // namespace lockstep
