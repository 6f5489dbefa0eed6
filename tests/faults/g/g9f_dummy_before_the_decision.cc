// A rank takes pages for its dummy request, then the group decides that nobody runs, and the pages are
// not given back. Allocation belongs behind the decision. NVIDIA/TensorRT-LLM#16921.
#include "cache/page_pool.h"
#include "faults/entries.h"

namespace lockstep::faults {
namespace {

constexpr bool kGroupRuns = false;

Status step(bool decide_first) {
  PagePool pool(4);
  if (decide_first && !kGroupRuns) return pool.check_idle();
  const PageId dummy = LS_TRY(pool.allocate());
  if (!kGroupRuns) return pool.check_idle();
  pool.release(dummy, Epoch(1));
  pool.step_ended(Epoch(1));
  return pool.check_idle();
}

Status wrong() { return step(false); }
Status twin() { return step(true); }

}  // namespace

const Entry kG9f = {
    .id = "G9f",
    .fault_class = 'g',
    .title = "a rank allocates its dummy request before the group decides not to run",
    .thread = "NVIDIA/TensorRT-LLM#16921",
    .expect = {.moment = Moment::kCommit,
               .check = "P3",
               .field = "pages",
               .row = 1,
               .expected = "nobody's",
               .found = "held by 1"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
