// Pinned input is used again without the event that the older runner had; under data parallelism the group
// then hangs after minutes, and the ranks that are busy are the ones that are stuck. The rank with the fault
// stops before the exchange; the others are told who is missing. vllm-project/vllm#54269.
#include <algorithm>
#include <chrono>
#include <thread>

#include "comm/thread_fabric.h"
#include "faults/consumers.h"
#include "faults/entries.h"
#include "plan/step_plan.h"

namespace lockstep::faults {
namespace {

constexpr ConsumerSpec kSpec = sums_named("attention");
constexpr int32_t kRanks = 2;

// One rank's step, from its plan to the report.
Status step(const Where& where, bool reuse) {
  const auto bench = LS_TRY(Workbench::create(where, {.pace = Pace::kLate}));
  const Sums attention(*bench, kSpec);
  const auto hand = LS_TRY(HandMade::create(*bench));
  const int32_t first = LS_TRY(bench->begin(20)), second = LS_TRY(bench->begin(30));
  StepPlan plan = LS_TRY(bench->decode({first}));
  LS_TRY(hand->capture(plan, attention));
  plan = LS_TRY(bench->decode({first, second}));
  const auto bytes = static_cast<int64_t>(plan.image().size());
  StagingLease lease = LS_TRY(hand->staging().lease(bench->stream(), bytes));
  const std::span<std::byte> pinned = lease.bytes();
  std::copy(plan.image().begin(), plan.image().end(), pinned.begin());
  LS_TRY(bench->stream().copy(hand->image().bytes().rows(0, bytes), std::move(lease)));
  if (reuse) std::fill(pinned.begin(), pinned.end(), std::byte{0});
  LS_TRY(hand->replay(plan));
  bench->stream().synchronize();
  LS_TRY(bench->stream().check_copies());
  return hand->check(plan);
}

// What rank 1 says, which has the fault; rank 0 must have been told that it did not come.
Status serve(const Where& where, bool reuse) {
  const auto group = make_thread_group("dp", kRanks, std::chrono::milliseconds(reuse ? 50 : 10000));
  std::array<Status, kRanks> said;
  const auto run = [&](int32_t rank) {
    Status& status = said[static_cast<size_t>(rank)];
    status = step(where, reuse && rank == 1);
    if (!status.ok()) return;
    std::array<int32_t, kRanks> all{};
    status = group[static_cast<size_t>(rank)]->all_gather(
        std::as_bytes(std::span(&rank, 1)), std::as_writable_bytes(std::span(all)), DType::kI32);
  };
  std::thread other(run, 1);
  run(0);
  other.join();
  if (said[1].ok() || (said[0].fault() != nullptr && said[0].fault()->check == "G1")) return said[1];
  return error(Code::kInternal, "rank 0: \"", said[0].message(),
               "\"; expected to hear that rank 1 is missing");
}

Status wrong(const Where& where) { return serve(where, true); }
Status twin(const Where& where) { return serve(where, false); }

}  // namespace

const Entry kG10f = {
    .id = "G10f",
    .fault_class = 'g',
    .title = "pinned input is used again and the group waits for the rank that fails",
    .thread = "vllm-project/vllm#54269",
    .expect = {.moment = Moment::kCommit,
               .check = "L5",
               .field = "staging",
               .expected = "until its copy has read it"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
