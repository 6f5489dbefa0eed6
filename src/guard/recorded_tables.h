// RecordedTables: the page tables as they stood before the oldest recorded step, kept from the edits of the
// steps that were forgotten. With them, recorded plans can be held to the rules about pages.
#pragma once

#include <array>
#include <atomic>
#include <span>
#include <vector>

#include "guard/record.h"
#include "plan/zeroed_array.h"

namespace lockstep {

// Thread: one writer; read() from any thread, without making the writer wait.
class RecordedTables {
 public:
  explicit RecordedTables(const StepLimits& limits);

  static int64_t footprint(const StepLimits& limits);

  // A step leaves the recorder's memory: its edits become part of the tables. Entries out of range are left
  // out. Cost: O(edits).
  struct Forgotten {
    uint64_t serial = 0;
    uint64_t epoch = 0;
    int32_t live_logits_rows = 0;
    bool refused = false;  // the plan never was: it changes nothing but the count
    std::array<std::span<const TableEdit>, kMaxGroups> edits;
  };
  void forget(const Forgotten& step);

  uint64_t serial() const { return serial_.load(std::memory_order_acquire); }  // of the last forgotten step

  // Fills in where the recorded steps begin, and gives the last forgotten step's serial number. When the
  // writer forgets steps all the while, tables_known is false.
  uint64_t read(RankEntry& rank) const;

 private:
  struct Table {
    GroupId group;
    int32_t rows = 0;
    int32_t max_pages = 0;
    mutable ZeroedArray<int32_t> pages;    // [rows, max_pages]
    mutable ZeroedArray<int32_t> lengths;  // [rows]
  };
  void apply(Table& table, const TableEdit& edit);
  static TableEntry entries_of(const Table& table);

  StepLimits limits_;
  std::vector<Table> tables_;
  std::atomic<uint64_t> version_{0};  // odd while something changes
  std::atomic<uint64_t> serial_{0}, epoch_{0}, count_{0};
  std::atomic<int32_t> live_logits_rows_{0};
};

}  // namespace lockstep
