// ThreadGroup: ranks as threads of one process. What processes say to each other over a control channel, they
// say here through memory.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/status.h"

namespace lockstep {

// Thread: every rank calls from a thread of its own. Once an exchange has failed the group is closed: each
// rank gets the same failure, at once, for ever.
class ThreadGroup {
 public:
  // A rank waits for the others for `deadline` at most.
  ThreadGroup(int32_t ranks, std::chrono::milliseconds deadline);

  int32_t ranks() const { return ranks_; }

  // All-gather: what each rank brings, in order of ranks; all bring equally many bytes. Blocks until all have
  // come. Errors: kDevice with a fault (G1), naming the ranks that did not arrive within the deadline and the
  // exchange, counted from 1; kInternal (G1), naming a rank that brings another number of bytes.
  Result<std::vector<std::byte>> exchange(int32_t rank, std::span<const std::byte> bytes);

 private:
  // One exchange. Ranks that are still reading it keep it alive while others begin the next.
  struct Round {
    std::vector<std::vector<std::byte>> brought;  // [ranks]
    std::vector<bool> arrived;                    // [ranks]
    int32_t missing = 0;
    std::vector<std::byte> all;
    bool whole = false;  // everybody came, and `all` is what they brought
  };
  std::shared_ptr<Round> new_round() const;
  Status finish(Round& round);
  Status absent(const Round& round) const;

  const int32_t ranks_;
  const std::chrono::milliseconds deadline_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<Round> round_;
  int64_t number_ = 1;  // of the exchange at hand
  Status closed_;       // the failure that closed the group
};

}  // namespace lockstep
