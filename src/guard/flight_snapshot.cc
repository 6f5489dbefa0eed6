// How a recorder is read: by any thread, also while the writer is stuck or goes on.
#include <algorithm>

#include "guard/flight_recorder.h"

namespace lockstep {
namespace {

std::string_view feed_of(Binding::Kind kind) {
  switch (kind) {
    case Binding::Kind::kAddress: return "address";
    case Binding::Kind::kValue: return "value";
    case Binding::Kind::kDerived: return "derived";
    case Binding::Kind::kDecision: return "decision";
  }
  return "";
}

// The integers or floats that one element is made of.
int64_t parts_of(Element element) {
  switch (element) {
    case Element::kI32x2: return 2;
    case Element::kI32x3: return 3;
    case Element::kI32x4: return 4;
    default: return 1;
  }
}

}  // namespace

BindingEntry FlightRecorder::entry_of(const BindingSet& set, const Binding& binding) const {
  BindingEntry entry{.rank = options_.rank.rank,
                     .set = set.number,
                     .consumer = binding.consumer == nullptr ? "" : std::string(binding.consumer->name),
                     .field = std::string(name_of(binding)),
                     .group = binding.group.get(),
                     .feed = std::string(feed_of(binding.kind)),
                     .value = binding.value,
                     .epoch = set.first_epoch};
  const auto place_in = [&](const Handle& memory) {
    entry.arena = memory.arena;
    entry.allocation = memory.allocation;
    entry.generation = memory.generation;
    entry.offset = binding.offset;
  };
  if (binding.kind == Binding::Kind::kAddress) place_in(options_.image);
  for (const DerivedHandle& derived : options_.derived) {
    if (binding.kind == Binding::Kind::kDerived && derived.field == binding.name) place_in(derived.memory);
  }
  if (binding.kind == Binding::Kind::kDecision) return entry;
  const bool of_plan = binding.kind != Binding::Kind::kDerived;
  const int64_t parts = of_plan ? parts_of(info_of(binding.field).element) : 1;
  entry.shape = {binding.elements};
  entry.strides = {parts};
  if (parts > 1) {
    entry.shape.push_back(parts);
    entry.strides.push_back(1);
  }
  return entry;
}

void FlightRecorder::read_sets(Record& record) const {
  for (size_t s = 0; s < sets_.size(); ++s) {
    BindingSet& set = sets_[s];
    if (!set.hold.try_read()) continue;
    const bool named = set.number > 0 &&
                       std::any_of(record.steps.begin(), record.steps.end(),
                                   [&set](const StepEntry& step) { return step.binding_set == set.number; });
    for (int64_t b = 0; named && b < set.count; ++b) {
      const int64_t place = static_cast<int64_t>(s) * options_.max_bindings + b;
      record.bindings.push_back(entry_of(set, bindings_[static_cast<size_t>(place)]));
    }
    set.hold.end_read();
  }
  std::stable_sort(record.bindings.begin(), record.bindings.end(),
                   [](const BindingEntry& a, const BindingEntry& b) { return a.set < b.set; });
}

Record FlightRecorder::snapshot() const {
  const std::lock_guard<std::mutex> alone(readers_);
  struct Read {
    uint64_t serial = 0;
    StepEntry step;
    StepTime time;
  };
  std::vector<Read> steps;
  for (size_t s = 0; s < slots_.size(); ++s) {
    Hold& hold = slots_[s].hold;
    Read read;
    if (!hold.try_read()) continue;
    if (read_slot(s, read.serial, read.step, read.time)) steps.push_back(std::move(read));
    hold.end_read();
  }
  std::sort(steps.begin(), steps.end(), [](const Read& a, const Read& b) { return a.serial < b.serial; });

  Record record;
  record.ranks.push_back(options_.rank);
  // The tables come last: a step that was forgotten meanwhile is part of them, and its copy is dropped.
  uint64_t last = tables_.read(record.ranks.front());
  for (Read& read : steps) {
    if (read.serial != last + 1) continue;
    ++last;
    record.steps.push_back(std::move(read.step));
    record.times.push_back(read.time);
  }
  read_sets(record);
  return record;
}

}  // namespace lockstep
