// Records of several ranks, put together. What happened first is read off what ranks did, never off their
// clocks.
//
// The order of a merged record:
//   steps         by epoch, then rank: ranks step together.
//   collectives   LedgerEntry::order. The n-th collective of a group is one event for all its members. It
//   comes
//                 one after the latest event that any of them has entered before it, whatever the group; so
//                 of two numbers the lower one is earlier wherever a chain of collectives leads from one to
//                 the other, and equal numbers say that none does: neither was before the other.
//   launches      by step, then by how many collectives their rank had launched in the step before them, then
//   by
//                 their number; see LaunchTime.
//   faults        those of ranks on which something was wrong before those of ranks that were told.
#pragma once

#include <cstdint>
#include <map>
#include <string_view>
#include <tuple>
#include <vector>

#include "guard/record.h"

namespace lockstep {

// The records of several ranks as one, in the order above. Errors: kInvalidArgument when a rank comes twice,
// or when two records say that their job has different ranks.
Result<Record> merge(std::vector<Record> records);

// One collective, with the entries of everybody who is known to have entered it.
struct Meeting {
  std::string_view group;
  uint64_t number = 0;  // within the group; 0: not known, and then it has one entry
  uint64_t order = 0;
  std::vector<const LedgerEntry*> entered;  // by rank
  std::span<const int32_t> members;         // of the group, as the first of `entered` knows it; may be empty
};
// All collectives of a record's ledger, in order; of equal order, by step, group and members. The order is
// worked out anew: nothing that a file says of it is believed. Borrows the record.
// Cost: O(entries * log(entries)).
std::vector<Meeting> meetings_of(const Record& record);

// When a launch ran, for comparison with those of other ranks. Ranks run the same launches, so between the
// same two collectives they are at the same place of one program.
struct LaunchTime {
  uint64_t step = 0;
  int64_t collectives = 0;  // launched in the step before it
  int32_t order = 0;        // of the launch in its step

  // Whether it was earlier by more than its number: collectives lie between the two.
  bool before(const LaunchTime& other) const {
    return std::tie(step, collectives) < std::tie(other.step, other.collectives);
  }
  auto operator<=>(const LaunchTime&) const = default;
};
class LaunchClock {
 public:
  explicit LaunchClock(const Record& record);
  LaunchTime time_of(const LaunchPlace& place) const;

 private:
  std::map<std::pair<int32_t, uint64_t>, std::vector<int32_t>> collectives_;  // by rank and step, ascending
};

}  // namespace lockstep
