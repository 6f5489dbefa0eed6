// A page of shared memory was labelled as pinned and copied from without a copy of one's own; the thread that
// polls it puts the next request there while the copy is on its way. xLLM-AI/xllm#2043, #1880.
#include <algorithm>

#include "faults/consumers.h"
#include "faults/entries.h"
#include "plan/step_plan.h"

namespace lockstep::faults {
namespace {

constexpr ConsumerSpec kSpec = sums_named("attention");

// The plan reaches the device from a page that the front end writes.
Status serve(bool own_copy) {
  const auto bench = LS_TRY(Workbench::create({.pace = Pace::kLate}));
  const Sums attention(*bench, kSpec);
  const auto hand = LS_TRY(HandMade::create(*bench));
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(30));
  StepPlan plan = LS_TRY(bench->decode({first}));
  LS_TRY(hand->capture(plan, attention));
  plan = LS_TRY(bench->decode({first, second}));
  const StepPlan next = LS_TRY(bench->decode({second, first}));
  std::vector<std::byte> page(plan.image().begin(), plan.image().end());
  const auto bytes = static_cast<int64_t>(page.size());
  bench->forget_sums();
  if (own_copy) {
    LS_TRY(hand->refresh(plan));
  } else {
    LS_TRY(bench->stream().download(dense_view(page.data(), DType::kU8, {bytes}),
                                    hand->image().bytes().rows(0, bytes)));
  }
  LS_TRY(hand->replay(plan));
  std::copy(next.image().begin(), next.image().end(), page.begin());
  bench->stream().synchronize();
  LS_TRY(bench->stream().check_copies());
  LS_TRY(hand->check(plan));
  return bench->check_sums(plan);
}

Status wrong() { return serve(false); }
Status twin() { return serve(true); }

}  // namespace

const Entry kH5 = {
    .id = "H5",
    .fault_class = 'h',
    .title = "shared memory is taken for pinned and copied while others write to it",
    .thread = "xLLM-AI/xllm#2043",
    .expect = {.moment = Moment::kCommit,
               .check = "R3",
               .field = "epoch",
               .expected = "the step that the host planned"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
