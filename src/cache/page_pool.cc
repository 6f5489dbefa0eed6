#include "cache/page_pool.h"

#include "base/check.h"

namespace lockstep {

PagePool::PagePool(int32_t pages) : references_(static_cast<size_t>(pages)) {
  LS_CHECK(pages >= 2, "a pool of ", pages, " pages");
  references_[0] = 1;
  free_.reserve(static_cast<size_t>(pages) - 1);
  for (int32_t page = pages - 1; page > 0; --page) free_.emplace_back(page);
}

Result<PageId> PagePool::allocate() {
  if (free_.empty()) {
    return error(Code::kResourceExhausted, "page pool: all ", capacity(),
                 " pages are held; release one first");
  }
  const PageId page = free_.back();
  free_.pop_back();
  references_[static_cast<size_t>(page.get())] = 1;
  return page;
}

void PagePool::share(PageId page) {
  int32_t& count = references_[static_cast<size_t>(page.get())];
  LS_CHECK(page.get() > 0 && count > 0, "page ", page, " has ", count, " holders");
  ++count;
}

void PagePool::release(PageId page) {
  int32_t& count = references_[static_cast<size_t>(page.get())];
  LS_CHECK(page.get() > 0 && count > 0, "page ", page, " has ", count, " holders");
  if (--count == 0) free_.push_back(page);
}

}  // namespace lockstep
