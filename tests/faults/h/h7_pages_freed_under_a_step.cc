// A request ends by the output of step N while step N + 1, which reads its pages, is in flight. The pages
// went back to the pool at once and were refilled by a remote write. Window pruning has the same hole.
// vllm-project/vllm#45357, vllm-project/vllm-ascend#13501, #14055.
#include <vector>

#include "cache/page_pool.h"
#include "faults/entries.h"

namespace lockstep::faults {
namespace {

constexpr Epoch kFirst(1), kInFlight(2);

// A pool that frees what nobody holds.
Status wrong() {
  std::vector<PageId> free = {PageId(2), PageId(1)};
  Leases leases(3);
  const auto take = [&] {
    const PageId page = free.back();
    free.pop_back();
    return page;
  };
  const PageId page = take();
  leases.read(page, kInFlight);
  leases.step_ended(kFirst);  // and says that the request is done
  free.push_back(page);
  return leases.check(take());
}

// The pool keeps the page until the step in flight has ended.
Status twin() {
  PagePool pool(3);
  Leases leases(3);
  const PageId page = LS_TRY(pool.allocate());
  leases.read(page, kInFlight);
  leases.step_ended(kFirst);
  pool.step_ended(kFirst);
  pool.release(page, kInFlight);
  const PageId other = LS_TRY(pool.allocate());
  LS_TRY(leases.check(other));
  leases.step_ended(kInFlight);
  pool.step_ended(kInFlight);
  const PageId again = LS_TRY(pool.allocate());
  return leases.check(again);
}

}  // namespace

const Entry kH7 = {
    .id = "H7",
    .fault_class = 'h',
    .title = "pages of a finished request are refilled while a step still reads them",
    .thread = "vllm-project/vllm#45357",
    .expect = {.moment = Moment::kCommit,
               .check = "P3",
               .field = "pages",
               .row = 1,
               .expected = "step 2, which reads it, to end first",
               .found = "given to another owner after step 1"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
