#include "plan/cp_shares.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace lockstep {
namespace {

// The zigzag order: 2 * cp chunks per sequence, the longer ones first; rank r holds chunk r and its mirror
// image.
class Ranks {
 public:
  Ranks(int32_t cp, std::vector<int32_t> computed, std::vector<int32_t> rows) {
    for (size_t s = 0; s < rows.size(); ++s) {
      computed_.emplace_back(computed[s]);
      lengths_.emplace_back(computed[s] + rows[s]);
    }
    segments_.resize(static_cast<size_t>(cp));
    rows_.resize(static_cast<size_t>(cp));
    for (int32_t r = 0; r < cp; ++r) {
      for (size_t s = 0; s < rows.size(); ++s) {
        const auto chunk = [&](int32_t c) {
          const int32_t base = rows[s] / (2 * cp), longer = rows[s] % (2 * cp);
          const int32_t start = computed[s] + c * base + std::min(c, longer);
          return CpSegment{Position(start), RowCount(base + (c < longer ? 1 : 0))};
        };
        segments(r).push_back({chunk(r), chunk(2 * cp - 1 - r)});
        this->rows(r) += segments(r)[s].prev.length.get() + segments(r)[s].next.length.get();
      }
    }
  }
  std::vector<CpSegments>& segments(int32_t rank) { return segments_[static_cast<size_t>(rank)]; }
  int32_t& rows(int32_t rank) { return rows_[static_cast<size_t>(rank)]; }
  std::string check() {
    std::vector<CpShare> shares;
    for (size_t r = 0; r < segments_.size(); ++r)
      shares.push_back({.rank = static_cast<int32_t>(r), .segments = segments_[r], .rows = rows_[r]});
    const Status status =
        check_cp_shares(shares, {.epoch = Epoch(3), .computed_lens = computed_, .seq_lens = lengths_});
    return status.message();
  }

 private:
  std::vector<TokenCount> computed_, lengths_;
  std::vector<std::vector<CpSegments>> segments_;
  std::vector<int32_t> rows_;
};

TEST(CpShares, OfEvenAndOddLengthsWithAndWithoutACachedPrefixLoseNothing) {
  for (const int32_t cp : {1, 2, 4, 8}) {
    for (uint64_t seed = 1; seed <= 200; ++seed) {
      std::mt19937_64 random(seed);
      std::vector<int32_t> computed, rows;
      for (uint64_t s = 0; s <= random() % 8; ++s) {
        computed.push_back(random() % 2 == 0 ? 0 : static_cast<int32_t>(random() % 100));
        rows.push_back(static_cast<int32_t>(random() % (s % 2 == 0 ? 5 : 200)));
      }
      ASSERT_EQ(Ranks(cp, computed, rows).check(), "") << "cp " << cp << " seed " << seed;
    }
  }
}

// Whatever position of whatever sequence changes hands, somebody lacks it or has it twice.
TEST(CpShares, NameEveryPositionThatIsMovedToAnotherChunk) {
  int named = 0;
  for (const int32_t cp : {2, 4, 8}) {
    for (uint64_t seed = 1; seed <= 200; ++seed) {
      std::mt19937_64 random(seed);
      Ranks ranks(cp, {0, 7}, {static_cast<int32_t>(random() % 50 + 20), 31});
      const auto rank = static_cast<int32_t>(random() % static_cast<uint64_t>(cp));
      const size_t sequence = random() % 2;
      CpSegments& segments = ranks.segments(rank)[sequence];
      CpSegment& segment = random() % 2 == 0 ? segments.prev : segments.next;
      const int32_t by = random() % 2 == 0 ? 1 : -1;
      if (random() % 2 == 0)
        segment.start = Position(segment.start.get() + by);
      else
        segment.length = RowCount(segment.length.get() + by);
      const std::string said = ranks.check();
      EXPECT_EQ(said.rfind(concat("step 3: P9 cp_segments[", sequence, "] is "), 0), 0u)
          << "cp " << cp << " seed " << seed << ": " << said;
      ++named;
    }
  }
  EXPECT_EQ(named, 600);
}

TEST(CpShares, NamePositionsThatNobodyHolds) {
  Ranks ranks(2, {0}, {10});  // chunks of 3, 3, 2, 2
  ranks.segments(1)[0].prev.length = RowCount(2);

  EXPECT_EQ(ranks.check(),
            "step 3: P9 cp_segments[0] is position 5 in no rank; expected every position in one rank");
}

TEST(CpShares, NameTheLastPositionsToo) {
  Ranks ranks(2, {4}, {10});
  ranks.segments(0)[0].next.length = RowCount(0);

  EXPECT_EQ(ranks.check(),
            "step 3: P9 cp_segments[0] is positions 12..13 in no rank; expected every position in one rank");
}

TEST(CpShares, NamePositionsThatTwoRanksHold) {
  Ranks ranks(2, {0, 0}, {10, 10});
  ranks.segments(1)[1].prev.start = Position(1);

  EXPECT_EQ(
      ranks.check(),
      "step 3: P9 cp_segments[1] is positions 1..2 in ranks 0 and 1; expected every position in one rank");
}

TEST(CpShares, NamePositionsThatOneRankHoldsTwice) {
  Ranks ranks(1, {0}, {4});
  ranks.segments(0)[0].next.start = Position(1);

  EXPECT_EQ(ranks.check(),
            "step 3: P9 cp_segments[0] is position 1 twice in rank 0; expected every position in one rank");
}

TEST(CpShares, NameAChunkOutsideTheRowsOfItsSequence) {
  Ranks ranks(2, {4}, {10});
  ranks.segments(0)[0].prev.start = Position(3);
  EXPECT_EQ(ranks.check(),
            "step 3: P9 cp_segments[0] is 3 from 3 in rank 0; expected chunks within positions 4..13");

  Ranks longer(2, {4}, {10});
  longer.segments(0)[0].next.length = RowCount(3);
  EXPECT_EQ(longer.check(),
            "step 3: P9 cp_segments[0] is 3 from 12 in rank 0; expected chunks within positions 4..13");
}

TEST(CpShares, NameChunksOfUnevenLengths) {
  Ranks ranks(2, {0}, {8});
  ranks.segments(0)[0].prev.length = RowCount(4);
  ranks.segments(1)[0].prev = {Position(4), RowCount(0)};
  EXPECT_EQ(
      ranks.check(),
      "step 3: P9 cp_segments[0] is a chunk of 4 in rank 0 and one of 0 in rank 1; expected chunks whose "
      "lengths differ by at most one");
}

TEST(CpShares, NameARankWhoseRowsAreNotThoseOfItsChunks) {
  Ranks ranks(2, {0, 0}, {8, 3});
  ranks.rows(1) = 8;

  EXPECT_EQ(ranks.check(), "step 3: P9 num_rows is 8 in rank 1; expected 6, the rows of its chunks");
}

TEST(CpShares, NameARankThatLacksASequence) {
  Ranks ranks(2, {0, 0}, {8, 3});
  ranks.segments(1).pop_back();

  EXPECT_EQ(ranks.check(),
            "step 3: P9 cp_segments[0] is of 1 sequences in rank 1; expected the segments of 2 sequences");
}

}  // namespace
}  // namespace lockstep
