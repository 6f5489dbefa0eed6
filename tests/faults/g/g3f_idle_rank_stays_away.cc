// Whether an idle rank runs a dummy forward depended on the type of the executor. With one type it
// returned early, and the busy ranks waited in the all-to-all for ever. Nobody waits for ever here, and
// who is missing is named. vllm-project/vllm#51984, #53578.
#include <chrono>
#include <latch>
#include <thread>
#include <vector>

#include "comm/thread_group.h"
#include "faults/entries.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kRanks = 3, kIdle = 2, kDeadline = 200;

Status step(bool idle_takes_part) {
  ThreadGroup group(kRanks,
                    idle_takes_part ? std::chrono::seconds(10) : std::chrono::milliseconds(kDeadline));
  std::vector<Status> said(kRanks);
  std::latch start(idle_takes_part ? kRanks : kRanks - 1);
  {
    std::vector<std::jthread> threads;
    for (int32_t rank = 0; rank < kRanks; ++rank) {
      if (rank == kIdle && !idle_takes_part) continue;
      threads.emplace_back([&, rank] {
        start.arrive_and_wait();
        said[static_cast<size_t>(rank)] = group.exchange(rank, {}).status();
      });
    }
  }
  return said[0];
}

Status wrong() { return step(false); }
Status twin() { return step(true); }

}  // namespace

const Entry kG3f = {
    .id = "G3f",
    .fault_class = 'g',
    .title = "an idle rank returns early, and the busy ones wait for it in the collective",
    .thread = "vllm-project/vllm#51984",
    .expect = {.moment = Moment::kGroup,
               .check = "G1",
               .field = "participation",
               .expected = "all 3 ranks within 200 ms",
               .found = "without rank 2 at exchange 1"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
