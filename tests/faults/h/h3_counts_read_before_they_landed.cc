// Accepted counts go from the device to pinned memory without a wait, and the host reads them in the next
// step, when the copy may not have landed. Here it is the device's report that is read too early.
// vllm-project/vllm#36013.
#include "faults/consumers.h"
#include "faults/entries.h"

namespace lockstep::faults {
namespace {

constexpr ConsumerSpec kSpec = sums_named("attention");

Status serve(const Where& where, bool wait) {
  const auto bench = LS_TRY(Workbench::create(where, {.pace = Pace::kLate}));
  const Sums attention(*bench, kSpec);
  const auto hand = LS_TRY(HandMade::create(*bench));
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(30));
  StepPlan plan = LS_TRY(bench->decode({first}));
  LS_TRY(hand->capture(plan, attention));
  for (int32_t step = 0; step < 3; ++step) {
    plan = LS_TRY(bench->decode({first, second}));
    LS_TRY(hand->refresh(plan));
    LS_TRY(hand->replay(plan));
    if (wait) bench->stream().synchronize();
    LS_TRY(hand->check(plan));
  }
  return bench->check_sums(plan);
}

Status wrong(const Where& where) { return serve(where, false); }
Status twin(const Where& where) { return serve(where, true); }

}  // namespace

const Entry kH3 = {
    .id = "H3",
    .fault_class = 'h',
    .title = "what was downloaded is read before the copy has landed",
    .thread = "vllm-project/vllm#36013",
    .expect = {.moment = Moment::kCommit, .check = "L5", .field = "report", .found = "before"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
