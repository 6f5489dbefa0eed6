#include "comm/ledger.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace lockstep {
namespace {

TEST(Ledger, ListsTheNewestEntriesOldestFirst) {
  Ledger ledger;
  EXPECT_TRUE(ledger.last(5).empty());
  for (int64_t i = 1; i <= 2000; ++i) {
    ledger.begin_step(static_cast<uint64_t>(i / 10));
    ledger.enter({.op = "all_gather",
                  .group = "tp",
                  .count = i,
                  .number = static_cast<uint64_t>(i) + 5,
                  .at = {.stage = "moe_sum", .layer = i % 4}});
    if (i < 2000) ledger.leave();
  }

  const std::vector<CollectiveEntry> last = ledger.last(3);

  ASSERT_EQ(last.size(), 3u);
  EXPECT_EQ(last[0].sequence, 1998u);
  EXPECT_EQ(last[2].count, 2000);
  EXPECT_EQ(last[2].epoch, 200u);
  EXPECT_EQ(last[2].number, 2005u);
  EXPECT_EQ(describe(last[1].at.stage, last[1].at.layer), "layer 3 moe_sum");
  EXPECT_TRUE(last[1].finished);
  EXPECT_FALSE(last[2].finished) << "the rank is still in it";
  EXPECT_EQ(ledger.entered(), 2000u);
  EXPECT_EQ(ledger.last(5000).size(), Ledger::kEntries) << "older ones are forgotten";
}

TEST(Ledger, GivesAConcurrentReaderWholeEntriesOnly) {
  constexpr std::string_view kOps[] = {"all_gather", "all_to_all", "broadcast"};
  Ledger ledger;
  std::atomic<bool> stop{false};
  std::jthread writer([&] {
    for (uint64_t i = 1; !stop; ++i) {
      ledger.begin_step(i * 7);
      ledger.enter({.op = kOps[i % 3],
                    .group = kOps[i % 3],
                    .dtype = i % 2 == 0 ? DType::kF32 : DType::kU8,
                    .count = static_cast<int64_t>(i),
                    .number = i,
                    .at = {.stage = kOps[i % 3], .layer = static_cast<int64_t>(i)}});
      ledger.leave();
    }
  });

  // The oldest entries are those that the writer is about to write over.
  int64_t seen = 0, torn = 0;
  while (ledger.entered() < 5'000'000 || seen == 0) {
    for (const CollectiveEntry& entry : ledger.last(Ledger::kEntries)) {
      const uint64_t i = entry.sequence;
      const bool whole = entry.epoch == i * 7 && entry.op == kOps[i % 3] && entry.group == entry.op &&
                         entry.dtype == (i % 2 == 0 ? DType::kF32 : DType::kU8) &&
                         entry.count == static_cast<int64_t>(i) && entry.number == i &&
                         entry.at.stage == entry.op && entry.at.layer == entry.count;
      torn += whole ? 0 : 1;
      ++seen;
    }
  }
  stop = true;
  EXPECT_EQ(torn, 0) << "of " << seen;
}

}  // namespace
}  // namespace lockstep
