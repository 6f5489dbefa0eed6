// PagePool: which pages of a cache group are free, and how many sequences hold each of the others. Ids and
// counts only; the memory belongs to the storage.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "base/units.h"

namespace lockstep {

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
  // One more holder of a held page.
  void share(PageId page);
  // One holder less; the last one frees the page.
  void release(PageId page);
  int32_t references(PageId page) const { return references_[static_cast<size_t>(page.get())]; }

  // The idle invariant: every page but the reserved one is free.
  bool idle() const { return available() == capacity(); }

 private:
  int32_t& held(PageId page);

  std::vector<PageId> free_;         // last in, first out: recently used pages are warm
  std::vector<int32_t> references_;  // [pages]
};

}  // namespace lockstep
