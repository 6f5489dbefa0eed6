// Metadata was prepared by making new objects and new tensors in each cycle of replays; the captured ops
// expect the addresses of the first. sgl-project/sglang#27664.
#include "faults/consumers.h"
#include "faults/entries.h"

namespace lockstep::faults {
namespace {

constexpr ConsumerSpec kSpec = sums_named("dp_attention");

// An executor with an image per cycle: its plan arrives whole, at a place that no captured kernel reads.
Status serve(const Where& where, bool rebuild) {
  const auto bench = LS_TRY(Workbench::create(where));
  const Sums attention(*bench, kSpec);
  const auto hand = LS_TRY(HandMade::create(*bench));
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(30));
  StepPlan plan = LS_TRY(bench->decode({first}));
  LS_TRY(hand->capture(plan, attention));
  for (int32_t cycle = 0; cycle < 3; ++cycle) {
    plan = LS_TRY(bench->decode({first, second}));
    if (rebuild) hand->image() = LS_TRY(DeviceImage::create(bench->limits(), bench->arena()));
    LS_TRY(hand->prepare(plan, attention, hand->image()));
    LS_TRY(hand->hold_to_capture(plan, attention));
    bench->forget_sums();
    LS_TRY(hand->refresh(plan));
    LS_TRY(hand->replay(plan));
    bench->stream().synchronize();
    LS_TRY(hand->check(plan));
    LS_TRY(bench->check_sums(plan));
  }
  return {};
}

Status wrong(const Where& where) { return serve(where, true); }
Status twin(const Where& where) { return serve(where, false); }

}  // namespace

const Entry kB4 = {
    .id = "B4",
    .fault_class = 'b',
    .title = "metadata is rebuilt in new memory in each cycle",
    .thread = "sgl-project/sglang#27664",
    .expect = {.moment = Moment::kReplay,
               .check = "R1",
               .field = "lens",
               .consumer = "dp_attention",
               .expected = "bench/plan image",
               .found = "bench/plan image"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
