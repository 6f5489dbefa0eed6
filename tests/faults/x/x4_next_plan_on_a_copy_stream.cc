// Invented. Plans go to the device on a stream of their own, so that they are there early; nobody makes it
// wait for the kernels of the step before, and the next plan arrives under a step that has still to run.
#include "faults/consumers.h"
#include "faults/entries.h"

namespace lockstep::faults {
namespace {

constexpr ConsumerSpec kSpec = sums_named("attention");

Status serve(const Where& where, bool early) {
  const auto bench = LS_TRY(Workbench::create(where, {.pace = Pace::kLate}));
  const Sums attention(*bench, kSpec);
  const auto hand = LS_TRY(HandMade::create(*bench));
  std::unique_ptr<DeviceQueue> queue;
  if (where.device != nullptr) queue = LS_TRY(where.device->make_queue());
  Stream copies(where.device, std::move(queue), 1, Pace::kLate);
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(30));
  StepPlan plan = LS_TRY(bench->decode({first}));
  LS_TRY(hand->capture(plan, attention));
  plan = LS_TRY(bench->decode({first, second}));
  const StepPlan next = LS_TRY(bench->decode({second, first}));
  bench->forget_sums();
  LS_TRY(hand->image().refresh(plan, copies, hand->staging()));
  copies.synchronize();
  LS_TRY(hand->replay(plan));
  if (early) {
    LS_TRY(hand->image().refresh(next, copies, hand->staging()));
    copies.synchronize();
  }
  bench->stream().synchronize();
  LS_TRY(hand->check(plan));
  return bench->check_sums(plan);
}

Status wrong(const Where& where) { return serve(where, true); }
Status twin(const Where& where) { return serve(where, false); }

}  // namespace

const Entry kX4 = {
    .id = "X4",
    .fault_class = 'h',
    .title = "invented: the next plan arrives on a copy stream under a running step",
    .thread = "",
    .expect = {.moment = Moment::kCommit,
               .check = "R3",
               .field = "epoch",
               .expected = "the step that the host planned"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
