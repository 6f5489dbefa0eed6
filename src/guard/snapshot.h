// Snapshots: the bytes of a set of memory ranges at one moment, to compare with later ones and to put back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/common/operands.h"

namespace lockstep {

// Ranges of memory, sorted, disjoint, each with its place in every snapshot of the set. Thread: one owner.
class RangeSet {
 public:
  void clear() { ranges_.clear(); }
  void add(const ByteRange& range) {
    if (!range.empty()) ranges_.push_back(range);
  }
  // Sorts and joins; before anything below.
  void finish();

  std::span<const ByteRange> ranges() const { return ranges_; }
  size_t bytes() const { return bytes_; }
  // Where the byte at `address` lies in a snapshot; -1: in none of the ranges.
  int64_t place(uintptr_t address) const;
  uintptr_t address_of(size_t place) const;  // precondition: place < bytes()

 private:
  std::vector<ByteRange> ranges_;
  std::vector<size_t> places_;  // of each range's first byte
  size_t bytes_ = 0;
};

using Snapshot = std::vector<std::byte>;  // RangeSet::bytes(), range after range

void take(const RangeSet& set, const HostView& memory, Snapshot& snapshot);
// Makes what lies there as in `now` what it is in `wanted`. A range that is the same is not written: memory
// that nobody has written stays without pages of its own.
void restore(const RangeSet& set, const HostView& memory, const Snapshot& now, const Snapshot& wanted);

// The first address at which two snapshots differ, outside of `written`; 0: none.
uintptr_t first_difference_outside(const RangeSet& set, const RangeSet& written, const Snapshot& first,
                                   const Snapshot& second);

}  // namespace lockstep
