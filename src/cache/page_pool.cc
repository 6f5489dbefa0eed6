#include "cache/page_pool.h"

#include "base/check.h"

namespace lockstep {

PagePool::PagePool(int32_t pages) {
  LS_CHECK(pages >= 2, "a pool of ", pages, " pages");
  references_.resize(static_cast<size_t>(pages));
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

// The count of a page that is held. Page 0 is nobody's.
int32_t& PagePool::held(PageId page) {
  LS_CHECK(page.get() > 0 && page.get() <= capacity().get(), "page ", page, " of ", references_.size(),
           " is reserved or does not exist");
  int32_t& count = references_[static_cast<size_t>(page.get())];
  LS_CHECK(count > 0, "page ", page, " has ", count, " holders");
  return count;
}

void PagePool::share(PageId page) { ++held(page); }

void PagePool::release(PageId page) {
  if (--held(page) == 0) free_.push_back(page);
}

}  // namespace lockstep
