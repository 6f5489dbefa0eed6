#include "cache/page_pool.h"

#include <algorithm>

#include "base/check.h"

namespace lockstep {

PagePool::PagePool(int32_t pages) : leases_(pages) {
  LS_CHECK(pages >= 2, "a pool of ", pages, " pages");
  references_.resize(static_cast<size_t>(pages));
  generations_.resize(static_cast<size_t>(pages));
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
  LS_TRY(leases_.check(page));
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

Status PagePool::share(const PageRef& remembered) {
  const PageId page = remembered.page;
  LS_CHECK(page.get() > 0 && page.get() <= capacity().get(), "page ", page, " of ", references_.size(),
           " is reserved or does not exist");
  if (references(page) == 0 || ref(page) != remembered) {
    return broken(
        {.check = "P3",
         .moment = Moment::kPlan,
         .consumer = "",
         .field = "pages",
         .row = page.get(),
         .rank = 0,
         .step = 0,
         .expected = concat("held since it was remembered, in generation ", remembered.generation),
         .found = concat("in generation ", ref(page).generation, " with ", references(page), " holders")});
  }
  ++held(page);
  return {};
}

void PagePool::release(PageId page, Epoch last_step) {
  leases_.read(page, last_step);
  if (--held(page) > 0) return;
  ++generations_[static_cast<size_t>(page.get())];
  (leases_.over(page) ? free_ : leased_).push_back(page);
}

void PagePool::step_ended(Epoch step) {
  leases_.step_ended(step);
  std::erase_if(leased_, [this](PageId page) {
    if (!leases_.over(page)) return false;
    free_.push_back(page);
    return true;
  });
}

Status PagePool::check_idle() const {
  if (idle()) return {};
  const auto held = std::find_if(references_.begin() + 1, references_.end(), [](int32_t n) { return n > 0; });
  const bool is_held = held != references_.end();
  return broken({.check = "P3",
                 .moment = Moment::kCommit,
                 .consumer = "",
                 .field = "pages",
                 .row = is_held ? held - references_.begin() : int64_t{leased_.front().get()},
                 .rank = 0,
                 .step = 0,
                 .expected = "nobody's, as no sequence is left",
                 .found = is_held ? concat("held by ", *held) : "read by a step that has not ended"});
}

}  // namespace lockstep
