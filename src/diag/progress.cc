#include "diag/progress.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <iostream>

namespace lockstep {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kSilence = 2 * kSecond;       // work that is over by then is not worth a line
constexpr int64_t kRedraw = kSecond / 10;       // on a terminal
constexpr int64_t kLineInterval = 5 * kSecond;  // elsewhere: a log of a long load stays short

std::string format(const char* pattern, double value) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), pattern, value);
  return text.data();
}

// A size with three digits or more of its unit: "1.25 GB", "640 kB", "12 items".
struct Scale {
  double divisor;
  const char* unit;
  const char* pattern;
};

Scale scale_of(ProgressUnit unit, int64_t total) {
  if (unit == ProgressUnit::kItems) return {1, "", "%.0f"};
  if (total >= 1'000'000'000) return {1e9, " GB", "%.2f"};
  if (total >= 1'000'000) return {1e6, " MB", "%.1f"};
  return {1e3, " kB", "%.1f"};
}

std::string amount(ProgressUnit unit, int64_t value) {
  const Scale scale = scale_of(unit, value);
  return format(scale.pattern, static_cast<double>(value) / scale.divisor) + scale.unit;
}

std::string rate(ProgressUnit unit, int64_t done, int64_t elapsed_ns) {
  if (elapsed_ns <= 0) return amount(unit, 0) + "/s";
  const double per_second = static_cast<double>(done) * 1e9 / static_cast<double>(elapsed_ns);
  return amount(unit, static_cast<int64_t>(per_second)) + "/s";
}

}  // namespace

bool ProgressOptions::stderr_is_terminal() { return isatty(STDERR_FILENO) == 1; }

Progress::Progress(std::string what, int64_t total, ProgressUnit unit, ProgressOptions options)
    : what_(std::move(what)),
      total_(total),
      unit_(unit),
      options_(std::move(options)),
      start_ns_(options_.clock()),
      next_print_ns_(start_ns_ + kSilence) {}

Progress::~Progress() { finish(); }

void Progress::advance(int64_t amount_done) {
  done_.fetch_add(amount_done, std::memory_order_relaxed);
  const int64_t now = options_.clock();
  if (now < next_print_ns_.load(std::memory_order_relaxed)) return;
  const std::unique_lock lock(printing_, std::try_to_lock);
  if (!lock.owns_lock() || finished_ || now < next_print_ns_.load(std::memory_order_relaxed)) return;
  next_print_ns_.store(now + (options_.terminal ? kRedraw : kLineInterval), std::memory_order_relaxed);
  print(line(now), false);
}

void Progress::finish() {
  const std::lock_guard lock(printing_);
  if (finished_) return;
  finished_ = true;
  const int64_t now = options_.clock();
  if (now >= start_ns_ + kSilence) print(last_line(now), true);
}

std::string Progress::line(int64_t now) const {
  const int64_t elapsed = now - start_ns_;
  const int64_t finished = done();
  const std::string speed = rate(unit_, finished, elapsed);
  if (total_ <= 0) return what_ + ": " + amount(unit_, finished) + ", " + speed;
  const double share = std::min(1.0, static_cast<double>(finished) / static_cast<double>(total_));
  const Scale scale = scale_of(unit_, total_);
  std::string text = what_ + ": " + format(scale.pattern, static_cast<double>(finished) / scale.divisor) +
                     " of " + amount(unit_, total_) + format(" (%.0f%%), ", 100 * share) + speed;
  if (share > 0) text += format(", %.0f s left", 1e-9 * static_cast<double>(elapsed) * (1 - share) / share);
  return text;
}

std::string Progress::last_line(int64_t now) const {
  const int64_t elapsed = now - start_ns_;
  return what_ + ": " + amount(unit_, done()) + format(" in %.1f s, ", 1e-9 * static_cast<double>(elapsed)) +
         rate(unit_, done(), elapsed);
}

void Progress::print(const std::string& text, bool last) {
  std::ostream& out = options_.out != nullptr ? *options_.out : std::cerr;
  if (options_.terminal) {
    out << '\r' << text << "\x1b[K" << (last ? "\n" : "") << std::flush;  // the escape clears the line's rest
  } else {
    out << text << '\n' << std::flush;
  }
}

}  // namespace lockstep
