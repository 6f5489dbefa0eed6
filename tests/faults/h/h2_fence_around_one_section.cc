// The first fence covered one section of the code; reused host tensors are also changed by the update of the
// engine's state, outside of it. What has to wait is the buffer, wherever it is refilled.
// vllm-project/vllm#24527, #25279.
#include <algorithm>

#include "faults/consumers.h"
#include "faults/entries.h"
#include "plan/step_plan.h"

namespace lockstep::faults {
namespace {

constexpr ConsumerSpec kSpec = sums_named("attention");

// An executor that keeps its host tensors from step to step.
Status serve(const Where& where, bool reuse) {
  const auto bench = LS_TRY(Workbench::create(where, {.pace = Pace::kLate}));
  const Sums attention(*bench, kSpec);
  const auto hand = LS_TRY(HandMade::create(*bench));
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(30));
  const StepPlan captured = LS_TRY(bench->decode({first}));
  LS_TRY(hand->capture(captured, attention));
  const StepPlan plan = LS_TRY(bench->decode({first, second}));
  const StepPlan next = LS_TRY(bench->decode({second, first}));
  bench->forget_sums();
  StagingLease lease =
      LS_TRY(hand->staging().lease(bench->stream(), static_cast<int64_t>(plan.image().size())));
  const std::span<std::byte> host_tensors = lease.bytes();
  std::copy(plan.image().begin(), plan.image().end(), host_tensors.begin());
  LS_TRY(bench->stream().copy(hand->image().bytes().rows(0, static_cast<int64_t>(host_tensors.size())),
                              std::move(lease)));
  LS_TRY(hand->replay(plan));
  // The state update, before anybody has waited.
  if (reuse) std::copy(next.image().begin(), next.image().end(), host_tensors.begin());
  bench->stream().synchronize();
  LS_TRY(bench->stream().check_copies());
  LS_TRY(hand->check(plan));
  return bench->check_sums(plan);
}

Status wrong(const Where& where) { return serve(where, true); }
Status twin(const Where& where) { return serve(where, false); }

}  // namespace

const Entry kH2 = {
    .id = "H2",
    .fault_class = 'h',
    .title = "host tensors are refilled outside of the fenced section",
    .thread = "vllm-project/vllm#24527",
    .expect = {.moment = Moment::kCommit,
               .check = "L5",
               .field = "staging",
               .expected = "until its copy has read it"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
