// Whether an idle rank runs a dummy forward depended on the type of the executor. With one type it
// returned early, and the busy ranks waited in the all-to-all for ever. Nobody waits for ever here, and
// who is missing is named. vllm-project/vllm#51984, #53578.
#include <array>
#include <chrono>
#include <thread>
#include <vector>

#include "comm/thread_fabric.h"
#include "faults/entries.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kRanks = 3, kIdle = 2, kDeadline = 1000;

Status step(bool idle_takes_part) {
  const auto group =
      make_thread_group("experts", kRanks, std::chrono::milliseconds(idle_takes_part ? 10000 : kDeadline));
  std::vector<Status> said(kRanks);
  {
    std::vector<std::jthread> threads;
    for (int32_t rank = 0; rank < kRanks; ++rank) {
      if (rank == kIdle && !idle_takes_part) continue;
      threads.emplace_back([&, rank] {
        const auto at = static_cast<size_t>(rank);
        const std::array<std::byte, 4> mine{};
        std::array<std::byte, 4 * kRanks> all{};
        said[at] = group[at]->all_gather(mine, all, DType::kF32);
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
               .expected = "all 3 ranks within 1000 ms",
               .found = "without rank 2 at collective 1"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
