// A hash stayed after its block was evicted; a stashed block list survived preemption and was given out
// again for the resumed request. The numbers named other pages by then. A page is remembered by number
// and generation here. RBLN-SW/vllm-rbln#676, ovg-project/kvcached#362.
#include <vector>

#include "cache/page_pool.h"
#include "faults/entries.h"

namespace lockstep::faults {
namespace {

constexpr Epoch kNoStep(0);

Status preempt_and_resume(bool drop_stash) {
  PagePool pool(3);
  std::vector<PageRef> stash;
  for (int i = 0; i < 2; ++i) {
    const PageId page = LS_TRY(pool.allocate());
    stash.push_back(pool.ref(page));
  }
  for (const PageRef& ref : stash) pool.release(ref.page, kNoStep);
  if (drop_stash) stash.clear();
  LS_TRY(pool.allocate());  // by somebody else
  if (stash.empty()) {
    const PageId page = LS_TRY(pool.allocate());
    stash.push_back(pool.ref(page));
  }
  for (const PageRef& ref : stash) LS_TRY(pool.share(ref));
  return {};
}

Status wrong() { return preempt_and_resume(false); }
Status twin() { return preempt_and_resume(true); }

}  // namespace

const Entry kI6 = {
    .id = "I6",
    .fault_class = 'i',
    .title = "a page list that was put aside survives preemption and is used for the resumed request",
    .thread = "RBLN-SW/vllm-rbln#676",
    .expect = {.moment = Moment::kPlan,
               .check = "P3",
               .field = "pages",
               .expected = "in generation 0",
               .found = "in generation 1"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
