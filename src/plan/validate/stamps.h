// Stamps: which of a range of ids have been seen, and by whom. Forgetting everything is O(1), so a check of
// uniqueness costs what it looks at and nothing else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace lockstep {

class Stamps {
 public:
  // ids 0..count-1.
  explicit Stamps(int32_t count = 0) : marks_(static_cast<size_t>(count)) {}

  void clear() { ++now_; }
  // Marks an id as seen by `by` >= 0. Who saw it before, or -1; the first one stays.
  int32_t mark(int32_t id, int32_t by) {
    Mark& entry = marks_[static_cast<size_t>(id)];
    if (entry.when == now_) return entry.by;
    entry = {.when = now_, .by = by};
    return -1;
  }
  // Who saw it, or -1.
  int32_t seen_by(int32_t id) const {
    const Mark& entry = marks_[static_cast<size_t>(id)];
    return entry.when == now_ ? entry.by : -1;
  }

 private:
  struct Mark {
    uint64_t when = 0;
    int32_t by = -1;
  };
  std::vector<Mark> marks_;
  uint64_t now_ = 1;
};

}  // namespace lockstep
