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

Profiler::Profiler(Executor& executor) : executor_(executor) {
  executor_.stream().set_observer({.before = before, .after = after, .self = this});
}

Profiler::~Profiler() { executor_.stream().set_observer({}); }

void Profiler::before(void* self, const LaunchRecord&) {
  static_cast<Profiler*>(self)->launched_ns_ = now_ns();
}

void Profiler::after(void* self, const LaunchRecord& launch) {
  auto* profiler = static_cast<Profiler*>(self);
  const int64_t ns = now_ns() - profiler->launched_ns_;
  Entry& entry = profiler->entry_of(launch.site.op(), launch.site.stage);
  entry.ns += ns;
  ++entry.calls;
}

// Names are static storage, and a model has few dozens of them.
Profiler::Entry& Profiler::entry_of(std::string_view op, std::string_view stage) {
  for (Entry& entry : entries_) {
    if (entry.op == op && entry.stage == stage) return entry;
  }
  return entries_.emplace_back(Entry{.op = op, .stage = stage});
}

void Profiler::begin_step() {
  for (Entry& entry : entries_) entry.calls = entry.ns = 0;
}

void Profiler::keep_step(int64_t step_ns) {
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
