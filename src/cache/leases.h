// Leases: the last step that reads each page. Steps run behind the host's back, so a page that nobody holds
// is not free yet: it is handed out again after that step has ended.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/fault.h"
#include "base/units.h"

namespace lockstep {

// Thread: one owner, the engine's. Cost: O(1).
class Leases {
 public:
  explicit Leases(int32_t pages) : last_(static_cast<size_t>(pages)) {}

  // `step` reads or writes the page. Steps may be named in any order.
  void read(PageId page, Epoch step) {
    Epoch& last = last_[static_cast<size_t>(page.get())];
    last = std::max(last, step);
  }
  // Steps end in the order of their epochs.
  void step_ended(Epoch step) { ended_ = std::max(ended_, step); }
  bool over(PageId page) const { return last_[static_cast<size_t>(page.get())] <= ended_; }

  // Whether the page may have another owner. Errors: kInternal (P3) while a step that reads it has not ended.
  Status check(PageId page) const {
    if (over(page)) return {};
    return broken({.check = "P3",
                   .moment = Moment::kCommit,
                   .consumer = "",
                   .field = "pages",
                   .row = page.get(),
                   .rank = 0,
                   .step = 0,
                   .expected = concat("step ", last_[static_cast<size_t>(page.get())],
                                      ", which reads it, to end first"),
                   .found = concat("given to another owner after step ", ended_)});
  }

 private:
  std::vector<Epoch> last_;  // [pages]
  Epoch ended_;
};

}  // namespace lockstep
