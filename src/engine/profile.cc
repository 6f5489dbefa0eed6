#include "engine/profile.h"

#include <algorithm>

#include "base/clock.h"

namespace lockstep {
namespace {

double median_us(std::vector<int64_t> ns) {
  const auto middle = ns.begin() + static_cast<ptrdiff_t>(ns.size() / 2);
  std::nth_element(ns.begin(), middle, ns.end());
  return static_cast<double>(*middle) * 1e-3;
}

}  // namespace

Profiler::Profiler(Executor& executor) : executor_(executor), queue_(executor.stream().queue()) {
  executor_.stream().set_observer({.before = before, .after = after, .self = this});
}

Profiler::~Profiler() { executor_.stream().set_observer({}); }

// A device has its own time, read once the step is over; a failure to take it is told by the step's end.
int64_t Profiler::moment() {
  if (queue_ == nullptr) return now_ns();
  const Result<int64_t> tick = queue_->tick();
  return tick.ok() ? *tick : -1;
}

void Profiler::before(void* self, const LaunchRecord&) {
  auto* profiler = static_cast<Profiler*>(self);
  profiler->launched_ = profiler->moment();
}

void Profiler::after(void* self, const LaunchRecord& launch) {
  auto* profiler = static_cast<Profiler*>(self);
  const int64_t now = profiler->moment();
  Entry& entry = profiler->entry_of(launch.site.op(), launch.site.stage);
  ++entry.calls;
  if (profiler->queue_ == nullptr) {
    entry.ns += now - profiler->launched_;
  } else if (profiler->launched_ >= 0 && now >= 0) {
    entry.ticks.emplace_back(profiler->launched_, now);
  }
}

void Profiler::read_ticks() {
  for (Entry& entry : entries_) {
    for (const auto& [from, to] : entry.ticks) {
      const Result<double> us = queue_->us_between(from, to);
      if (us.ok()) entry.ns += static_cast<int64_t>(1000 * *us);
    }
  }
}

// Names are static storage, and a model has few dozens of them.
Profiler::Entry& Profiler::entry_of(std::string_view op, std::string_view stage) {
  for (Entry& entry : entries_) {
    if (entry.op == op && entry.stage == stage) return entry;
  }
  return entries_.emplace_back(Entry{.op = op, .stage = stage});
}

void Profiler::begin_step() {
  for (Entry& entry : entries_) {
    entry.calls = entry.ns = 0;
    entry.ticks.clear();
  }
  if (queue_ != nullptr) queue_->forget_ticks();
}

void Profiler::keep_step(int64_t step_ns) {
  if (queue_ != nullptr) read_ticks();
  const StepTimes& times = executor_.times();
  const int64_t executed = times.enqueue_ns + times.finish_ns;
  int64_t launched = 0;
  for (const Entry& entry : entries_) launched += entry.op == "host" ? 0 : entry.ns;
  const auto host = [this](std::string_view stage, int64_t ns) {
    Entry& entry = entry_of("host", stage);
    entry.ns = ns;
    entry.calls = 1;
  };
  host("schedule, plan, commit", step_ns - executed);
  host("bind, check, between launches", executed - launched);
  for (Entry& entry : entries_) {
    if (entry.calls > 0) entry.steps.push_back(entry.ns);
  }
}

void Profiler::clear() { entries_.clear(); }

std::vector<ProfileLine> Profiler::lines(std::span<const OpCost> costs, const Roofs& roofs) const {
  std::vector<ProfileLine> lines;
  for (const Entry& entry : entries_) {
    if (entry.steps.empty()) continue;
    ProfileLine line{.op = std::string(entry.op), .stage = std::string(entry.stage), .calls = entry.calls};
    line.us = median_us(entry.steps);
    for (const OpCost& cost : costs) {
      if (cost.op != entry.op || cost.stage != entry.stage) continue;
      line.bytes = cost.read + cost.written;
      line.flop = cost.flop;
      line.roof_us = roof_time(cost, roofs).seconds() * 1e6;
    }
    lines.push_back(std::move(line));
  }
  std::sort(lines.begin(), lines.end(),
            [](const ProfileLine& a, const ProfileLine& b) { return a.us > b.us; });
  return lines;
}

}  // namespace lockstep
