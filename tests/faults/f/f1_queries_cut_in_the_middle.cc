// A rank's rows are all early chunks, then all late ones; the cut between them is the sum of the early
// chunks. One backend missed the move to lists per sequence and cut in the middle, right only for a batch
// of one. Two sequences of 3 and 5. sgl-project/sglang#26705.
#include <algorithm>
#include <vector>

#include "faults/entries.h"
#include "plan/cp_shares.h"

namespace lockstep::faults {
namespace {

constexpr int32_t kRanks = 2;
constexpr int32_t kLengths[] = {3, 5};

// Chunk `c` of 2 * kRanks of a sequence, the longer ones first.
CpSegment chunk_of(int32_t length, int32_t c) {
  const int32_t base = length / (2 * kRanks), longer = length % (2 * kRanks);
  return {Position(c * base + std::min(c, longer)), RowCount(base + (c < longer ? 1 : 0))};
}

// What a rank attends with when it takes the first `early` of its rows for early chunks.
std::vector<CpSegments> cut_at(std::vector<CpSegments> segments, int32_t early) {
  for (CpSegments& own : segments) {
    const int32_t rows = own.prev.length.get() + own.next.length.get();
    const int32_t prev = std::min(own.prev.length.get(), early);
    own.prev.length = RowCount(prev);
    own.next.length = RowCount(rows - prev);
    early -= prev;
  }
  return segments;
}

Status attend(bool in_the_middle) {
  std::vector<std::vector<CpSegments>> segments(kRanks);
  std::vector<CpShare> shares;
  for (int32_t rank = 0; rank < kRanks; ++rank) {
    std::vector<CpSegments>& own = segments[static_cast<size_t>(rank)];
    int32_t rows = 0, early = 0;
    for (const int32_t length : kLengths) {
      own.push_back({chunk_of(length, rank), chunk_of(length, 2 * kRanks - 1 - rank)});
      early += own.back().prev.length.get();
      rows += own.back().prev.length.get() + own.back().next.length.get();
    }
    own = cut_at(own, in_the_middle ? rows / 2 : early);
    shares.push_back({.rank = rank, .segments = own, .rows = rows});
  }
  const TokenCount computed[] = {TokenCount(0), TokenCount(0)};
  const TokenCount lengths[] = {TokenCount(kLengths[0]), TokenCount(kLengths[1])};
  return check_cp_shares(shares, {.epoch = Epoch(1), .computed_lens = computed, .seq_lens = lengths});
}

Status wrong() { return attend(true); }
Status twin() { return attend(false); }

}  // namespace

const Entry kF1 = {
    .id = "F1",
    .fault_class = 'f',
    .title = "a rank's query rows are cut in two equal halves, which is right for one sequence",
    .thread = "sgl-project/sglang#26705",
    .expect = {.moment = Moment::kPlan,
               .check = "P9",
               .field = "cp_segments",
               .row = 1,
               .expected = "every position in one rank",
               .found = "position 1 in no rank"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
