// What ties a rank to whoever started it: it tells the front how it ends, and does not outlive it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include "engine/rank_launcher.h"

namespace lockstep {

// While it lives, a thread of its own watches the front's socket, where there is a front, and the launcher.
// When either has gone, the process says so on stderr and ends with 72 within 250 ms, whatever it is doing.
class RankTether {
 public:
  // To be made before anything that takes long.
  RankTether(const LaunchedRank& launched, const Environment& environment);
  ~RankTether();
  RankTether(const RankTether&) = delete;
  RankTether& operator=(const RankTether&) = delete;

  // This rank ends with that exit code; the first word counts. Thread: any.
  void end_with(int code);

 private:
  void watch(const std::stop_token& stop);
  [[noreturn]] void leave(const char* who) const;

  LaunchedRank launched_;
  int parent_ = 0;
  std::string front_;  // as LOCKSTEP_FRONT says; empty: started by somebody else
  int socket_ = -1;
  std::atomic<bool> ended_{false};
  std::mutex mutex_;
  std::condition_variable_any stopped_;
  std::jthread thread_;
};

}  // namespace lockstep
