// One line on stderr that says how far a long piece of work is. Nothing appears for work under two seconds.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <mutex>
#include <string>

#include "base/clock.h"

namespace lockstep {

enum class ProgressUnit : uint8_t { kItems, kBytes };

// Where the line goes. The default is stderr as it is.
struct ProgressOptions {
  std::ostream* out = nullptr;              // null: std::cerr
  bool terminal = stderr_is_terminal();     // redraws one line; otherwise a line every five seconds
  std::function<int64_t()> clock = now_ns;  // nanoseconds that never go back

  static bool stderr_is_terminal();
};

// "loading weights: 1.25 of 16.00 GB (8%), 1.02 GB/s, 14 s left"
// Thread: advance() from any thread; a call that finds another one printing does not wait for it.
// Cost:   an atomic addition and a clock reading per call.
class Progress {
 public:
  // `total` <= 0: not known, so neither share nor remaining time is printed. `what` is "loading weights".
  Progress(std::string what, int64_t total, ProgressUnit unit, ProgressOptions options = {});
  ~Progress();  // finish()
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void advance(int64_t amount);
  // Prints the last line ("loading weights: 16.00 GB in 15.7 s, 1.02 GB/s") when any was or should have been
  // printed. Later calls do nothing.
  void finish();
  int64_t done() const { return done_.load(std::memory_order_relaxed); }

 private:
  std::string line(int64_t now) const;
  std::string last_line(int64_t now) const;
  void print(const std::string& text, bool last);

  const std::string what_;
  const int64_t total_;
  const ProgressUnit unit_;
  const ProgressOptions options_;
  const int64_t start_ns_;
  std::atomic<int64_t> done_{0};
  std::atomic<int64_t> next_print_ns_;
  std::mutex printing_;
  bool finished_ = false;
};

}  // namespace lockstep
