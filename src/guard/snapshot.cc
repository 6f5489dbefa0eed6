#include "guard/snapshot.h"

#include <algorithm>
#include <cstring>

namespace lockstep {

void RangeSet::finish() {
  std::sort(ranges_.begin(), ranges_.end(),
            [](const ByteRange& a, const ByteRange& b) { return a.begin < b.begin; });
  size_t kept = 0;
  for (size_t i = 1; i < ranges_.size(); ++i) {
    if (ranges_[i].begin <= ranges_[kept].end) {
      ranges_[kept].end = std::max(ranges_[kept].end, ranges_[i].end);
    } else {
      ranges_[++kept] = ranges_[i];
    }
  }
  if (!ranges_.empty()) ranges_.resize(kept + 1);
  places_.clear();
  bytes_ = 0;
  for (const ByteRange& range : ranges_) {
    places_.push_back(bytes_);
    bytes_ += range.end - range.begin;
  }
}

int64_t RangeSet::place(uintptr_t address) const {
  const auto after = std::upper_bound(ranges_.begin(), ranges_.end(), address,
                                      [](uintptr_t at, const ByteRange& range) { return at < range.begin; });
  if (after == ranges_.begin()) return -1;
  const auto range = after - 1;
  if (address >= range->end) return -1;
  const size_t first = places_[static_cast<size_t>(range - ranges_.begin())];
  return static_cast<int64_t>(first + (address - range->begin));
}

uintptr_t RangeSet::address_of(size_t place) const {
  const auto after = std::upper_bound(places_.begin(), places_.end(), place);
  const auto index = static_cast<size_t>(after - places_.begin()) - 1;
  return ranges_[index].begin + (place - places_[index]);
}

void take(const RangeSet& set, const HostView& memory, Snapshot& snapshot) {
  snapshot.resize(set.bytes());
  std::vector<HostView::Piece> pieces;
  size_t at = 0;
  for (const ByteRange& range : set.ranges()) {
    const size_t bytes = range.end - range.begin;
    pieces.push_back(
        {reinterpret_cast<const void*>(range.begin), snapshot.data() + at, static_cast<int64_t>(bytes)});
    at += bytes;
  }
  memory.read(pieces);
}

void restore(const RangeSet& set, const HostView& memory, const Snapshot& now, const Snapshot& wanted) {
  size_t at = 0;
  for (const ByteRange& range : set.ranges()) {
    const size_t bytes = range.end - range.begin;
    if (std::memcmp(now.data() + at, wanted.data() + at, bytes) != 0)
      memory.write(reinterpret_cast<void*>(range.begin), wanted.data() + at, static_cast<int64_t>(bytes));
    at += bytes;
  }
}

uintptr_t first_difference_outside(const RangeSet& set, const RangeSet& written, const Snapshot& first,
                                   const Snapshot& second) {
  const auto look = [&](size_t begin, size_t end) -> uintptr_t {
    if (begin >= end || std::memcmp(first.data() + begin, second.data() + begin, end - begin) == 0) return 0;
    while (first[begin] == second[begin]) ++begin;
    return set.address_of(begin);
  };
  size_t at = 0;
  auto next = written.ranges().begin();
  for (const ByteRange& range : set.ranges()) {
    uintptr_t from = range.begin;
    while (next != written.ranges().end() && next->end <= range.begin) ++next;
    for (auto w = next; w != written.ranges().end() && w->begin < range.end; ++w) {
      if (w->begin > from) {
        if (const uintptr_t found = look(at + (from - range.begin), at + (w->begin - range.begin)))
          return found;
      }
      from = std::max(from, w->end);
    }
    if (from < range.end) {
      if (const uintptr_t found = look(at + (from - range.begin), at + (range.end - range.begin)))
        return found;
    }
    at += range.end - range.begin;
  }
  return 0;
}

}  // namespace lockstep
