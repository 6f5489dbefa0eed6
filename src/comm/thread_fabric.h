// ThreadFabric: ranks as threads of one process. What processes say to each other through a network, they say
// here through memory.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "comm/mesh.h"

namespace lockstep {

namespace internal {
class ThreadGroup;
}

// What the ranks of one world share. Thread: any.
class ThreadWorld {
 public:
  // In a collective a rank waits for the others for `deadline` at most; in split() for kJoin.
  ThreadWorld(int32_t ranks, std::chrono::milliseconds deadline);
  int32_t ranks() const { return ranks_; }

 private:
  friend class ThreadFabric;
  std::shared_ptr<internal::ThreadGroup> group(int64_t split, int32_t color, size_t members);

  const int32_t ranks_;
  const std::chrono::milliseconds deadline_;
  std::shared_ptr<internal::ThreadGroup> joined_;  // all ranks, to say their colors
  std::mutex mutex_;
  std::map<std::pair<int64_t, int32_t>, std::shared_ptr<internal::ThreadGroup>> groups_;  // (split, color)
};

// Thread: one owner, a thread per rank.
class ThreadFabric final : public Fabric {
 public:
  // How long ranks wait for each other while they make groups: threads may start late.
  static constexpr std::chrono::seconds kJoin{30};

  ThreadFabric(std::shared_ptr<ThreadWorld> world, int32_t rank);
  int32_t rank() const override { return rank_; }
  int32_t size() const override { return world_->ranks(); }
  // Errors: those of a collective, when ranks do not come.
  Result<std::unique_ptr<Communicator>> split(std::string_view name, int32_t color, Ledger* ledger) override;

 private:
  std::shared_ptr<ThreadWorld> world_;
  int32_t rank_;
  std::unique_ptr<Communicator> joined_;
  int64_t splits_ = 0;
};

// All members of one group of `ranks` threads, in order of ranks, made by one thread; with ledgers if there
// are any, one per rank.
std::vector<std::unique_ptr<Communicator>> make_thread_group(std::string_view name, int32_t ranks,
                                                             std::chrono::milliseconds deadline,
                                                             std::span<Ledger> ledgers = {});

}  // namespace lockstep
