// Patience: how a rank passes the time while it waits for others, and when it has waited enough.
#pragma once

#include <sched.h>

#include <chrono>
#include <thread>

#include "base/clock.h"

namespace lockstep {

// Looks again at once for a moment, since others are often just behind; then gives its CPU to whoever has
// work; and after a millisecond sleeps in between, so that a long wait costs next to nothing.
class Patience {
 public:
  explicit Patience(std::chrono::milliseconds deadline)
      : began_(now_ns()), end_(began_ + std::chrono::nanoseconds(deadline).count()) {}

  // Passes a little time. False: the deadline has passed.
  bool wait() {
    if (++looks_ < kLooks) return true;
    const int64_t now = now_ns();
    if (now >= end_) return false;
    if (now - began_ < kYields) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    return true;
  }

 private:
  static constexpr int kLooks = 32;
  static constexpr int64_t kYields = 1'000'000;  // ns

  int64_t began_;
  int64_t end_;
  int looks_ = 0;
};

}  // namespace lockstep
