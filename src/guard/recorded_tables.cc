#include "guard/recorded_tables.h"

#include <cstring>

namespace lockstep {
namespace {

constexpr int kAttempts = 64;  // a writer forgets one step per step: two attempts nearly always do

// A reader may look while the writer writes; it finds out by the version and looks again. Until then every
// number has to be one that was written, not half of one.
int32_t load(int32_t& number) { return std::atomic_ref<int32_t>(number).load(std::memory_order_relaxed); }
void store(int32_t& number, int32_t value) {
  std::atomic_ref<int32_t>(number).store(value, std::memory_order_relaxed);
}

}  // namespace

RecordedTables::RecordedTables(const StepLimits& limits) : limits_(limits) {
  for (int32_t g = 0; g < limits.num_groups; ++g) {
    const CacheGroup& group = limits.group(GroupId(g));
    if (group.kind != GroupKind::kPaged) continue;
    const auto rows = static_cast<size_t>(group.table_rows);
    tables_.push_back({.group = GroupId(g),
                       .rows = group.table_rows,
                       .max_pages = group.max_pages_per_seq,
                       .pages = ZeroedArray<int32_t>(rows * static_cast<size_t>(group.max_pages_per_seq)),
                       .lengths = ZeroedArray<int32_t>(rows)});
  }
}

int64_t RecordedTables::footprint(const StepLimits& limits) {
  int64_t bytes = 0;
  for (int32_t g = 0; g < limits.num_groups; ++g) {
    const CacheGroup& group = limits.group(GroupId(g));
    if (group.kind == GroupKind::kPaged)
      bytes += (int64_t{group.max_pages_per_seq} + 1) * group.table_rows * 4;
  }
  return bytes;
}

void RecordedTables::forget(const Forgotten& step) {
  const uint64_t version = version_.load(std::memory_order_relaxed);
  version_.store(version + 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  if (!step.refused) {
    for (Table& table : tables_) {
      for (const TableEdit& edit : step.edits[static_cast<size_t>(table.group.get())]) apply(table, edit);
    }
    epoch_.store(step.epoch, std::memory_order_relaxed);
    live_logits_rows_.store(step.live_logits_rows, std::memory_order_relaxed);
  }
  count_.fetch_add(1, std::memory_order_relaxed);
  serial_.store(step.serial, std::memory_order_relaxed);
  version_.store(version + 2, std::memory_order_release);
}

void RecordedTables::apply(Table& table, const TableEdit& edit) {
  if (edit.row.get() < 0 || edit.row.get() >= table.rows || edit.index < 0 || edit.index >= table.max_pages)
    return;
  const auto row = static_cast<size_t>(edit.row.get());
  store(table.pages[row * static_cast<size_t>(table.max_pages) + static_cast<size_t>(edit.index)],
        edit.page.get());
  store(table.lengths[row], edit.index + 1);
}

TableEntry RecordedTables::entries_of(const Table& table) {
  std::vector<int32_t> edits;
  for (int32_t row = 0; row < table.rows; ++row) {
    const int32_t length = load(table.lengths[static_cast<size_t>(row)]);
    for (int32_t index = 0; index < length; ++index) {
      const size_t place = static_cast<size_t>(row) * static_cast<size_t>(table.max_pages);
      edits.insert(edits.end(), {row, index, load(table.pages[place + static_cast<size_t>(index)])});
    }
  }
  TableEntry entry{.group = table.group.get(), .edits = {.dtype = DType::kI32}};
  entry.edits.shape = {static_cast<int64_t>(edits.size()) / 3, 3};
  entry.edits.bytes.resize(edits.size() * sizeof(int32_t));
  if (!edits.empty()) std::memcpy(entry.edits.bytes.data(), edits.data(), entry.edits.bytes.size());
  return entry;
}

uint64_t RecordedTables::read(RankEntry& rank) const {
  uint64_t serial = 0;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const uint64_t version = version_.load(std::memory_order_acquire);
    rank.tables.clear();
    for (const Table& table : tables_) rank.tables.push_back(entries_of(table));
    serial = serial_.load(std::memory_order_relaxed);
    rank.epoch_before = epoch_.load(std::memory_order_relaxed);
    rank.logits_rows_before = live_logits_rows_.load(std::memory_order_relaxed);
    rank.steps_before = count_.load(std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_acquire);
    rank.tables_known = version % 2 == 0 && version == version_.load(std::memory_order_relaxed);
    if (rank.tables_known) break;
  }
  return serial;
}

}  // namespace lockstep
