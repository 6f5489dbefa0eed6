#include "comm/ledger.h"

#include <algorithm>

#include "base/status.h"

namespace lockstep {

std::string describe(std::string_view stage, int64_t layer) {
  if (stage.empty() || layer < 0) return std::string(stage);
  return concat("layer ", layer, " ", stage);
}

// Members are stored with release and loaded with acquire: whoever sees a newer member sees the odd version
// before it. Fences would do as well, but ThreadSanitizer does not know them.
void Ledger::enter(const CollectiveEntry& collective) {
  const uint64_t sequence = entered_.load(std::memory_order_relaxed) + 1;
  Slot& slot = slots_[sequence % kEntries];
  const uint64_t version = slot.version.load(std::memory_order_relaxed);
  slot.version.store(version + 1, std::memory_order_relaxed);
  slot.sequence.store(sequence, std::memory_order_release);
  slot.epoch.store(epoch(), std::memory_order_release);
  slot.op.store(collective.op.data(), std::memory_order_release);
  slot.op_size.store(collective.op.size(), std::memory_order_release);
  slot.group.store(collective.group.data(), std::memory_order_release);
  slot.group_size.store(collective.group.size(), std::memory_order_release);
  slot.dtype.store(collective.dtype, std::memory_order_release);
  slot.count.store(collective.count, std::memory_order_release);
  slot.number.store(collective.number, std::memory_order_release);
  slot.stage.store(collective.at.stage.data(), std::memory_order_release);
  slot.stage_size.store(collective.at.stage.size(), std::memory_order_release);
  slot.layer.store(collective.at.layer, std::memory_order_release);
  slot.finished.store(false, std::memory_order_release);
  slot.version.store(version + 2, std::memory_order_release);
  entered_.store(sequence, std::memory_order_release);
}

void Ledger::leave() {
  const uint64_t sequence = entered_.load(std::memory_order_relaxed);
  slots_[sequence % kEntries].finished.store(true, std::memory_order_release);
}

void Ledger::leave_all() {
  const uint64_t newest = entered_.load(std::memory_order_relaxed);
  const uint64_t kept = newest > kEntries ? newest - kEntries : 0;
  for (uint64_t sequence = std::max(left_, kept) + 1; sequence <= newest; ++sequence)
    slots_[sequence % kEntries].finished.store(true, std::memory_order_release);
  left_ = newest;
}

std::vector<CollectiveEntry> Ledger::last(size_t most) const {
  const uint64_t newest = entered();
  const uint64_t count = std::min<uint64_t>({newest, most, kEntries});
  std::vector<CollectiveEntry> entries;
  entries.reserve(count);
  for (uint64_t sequence = newest - count + 1; sequence <= newest; ++sequence) {
    const Slot& slot = slots_[sequence % kEntries];
    const uint64_t version = slot.version.load(std::memory_order_acquire);
    const uint64_t found = slot.sequence.load(std::memory_order_acquire);
    CollectiveEntry entry{.sequence = found, .epoch = slot.epoch.load(std::memory_order_acquire)};
    const char* op = slot.op.load(std::memory_order_acquire);
    entry.op = {op, slot.op_size.load(std::memory_order_acquire)};
    const char* group = slot.group.load(std::memory_order_acquire);
    entry.group = {group, slot.group_size.load(std::memory_order_acquire)};
    entry.dtype = slot.dtype.load(std::memory_order_acquire);
    entry.count = slot.count.load(std::memory_order_acquire);
    entry.number = slot.number.load(std::memory_order_acquire);
    const char* stage = slot.stage.load(std::memory_order_acquire);
    entry.at.stage = {stage, slot.stage_size.load(std::memory_order_acquire)};
    entry.at.layer = slot.layer.load(std::memory_order_acquire);
    entry.finished = slot.finished.load(std::memory_order_acquire);
    const bool whole = version % 2 == 0 && slot.version.load(std::memory_order_relaxed) == version;
    if (whole && found == sequence) entries.push_back(entry);
  }
  return entries;
}

}  // namespace lockstep
