// PagePool: which pages of a cache group are free, and how many sequences hold each of the others. Ids and
// counts only; the memory belongs to the storage.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "base/units.h"
#include "cache/leases.h"

namespace lockstep {

// A page as somebody may remember it who does not hold it. Once freed, it is another page by the same number.
struct PageRef {
  PageId page;
  uint32_t generation = 0;
  bool operator==(const PageRef&) const = default;
};

// Page 0 is reserved: pad rows read it, nobody owns it, it is never handed out.
// Thread: one owner, the engine's. Cost: O(1) per page.
class PagePool {
 public:
  // pages >= 2, the reserved one included.
  explicit PagePool(int32_t pages);

  PageCount available() const { return PageCount(static_cast<int32_t>(free_.size())); }
  PageCount capacity() const { return PageCount(static_cast<int32_t>(references_.size()) - 1); }

  // A free page with one reference. Errors: kResourceExhausted when none is left.
  Result<PageId> allocate();
  // What to remember of a held page.
  PageRef ref(PageId page) const { return {page, generations_[static_cast<size_t>(page.get())]}; }
  // One more holder of a held page. Errors: kInternal (P3) when it was freed since it was remembered.
  Status share(const PageRef& ref);
  // One holder less; the last one frees the page, for others once `last_step`, the last one in which this
  // holder used it, has ended.
  void release(PageId page, Epoch last_step);
  // `step` and those before it have ended: what only they kept is free.
  void step_ended(Epoch step);
  int32_t references(PageId page) const { return references_[static_cast<size_t>(page.get())]; }

  // The idle invariant: every page but the reserved one is free.
  bool idle() const { return available() == capacity(); }
  // ok when idle. Errors: kInternal (P3), naming the first page that is not free.
  Status check_idle() const;

 private:
  int32_t& held(PageId page);

  std::vector<PageId> free_;           // last in, first out: recently used pages are warm
  std::vector<int32_t> references_;    // [pages]
  std::vector<uint32_t> generations_;  // [pages]: how often it was freed
  std::vector<PageId> leased_;         // held by nobody, read by a step that has not ended
  Leases leases_;
};

}  // namespace lockstep
