#include "guard/record_merge.h"

#include <gtest/gtest.h>

#include <random>

namespace lockstep {
namespace {

// Four ranks: two replicas (dp) of two shares (tp). Their ledgers are filled by running them in any order
// that the collectives allow.
struct Job {
  std::vector<Record> records = std::vector<Record>(4);

  Job() {
    for (int32_t rank = 0; rank < 4; ++rank) {
      RankEntry& entry = records[static_cast<size_t>(rank)].ranks.emplace_back();
      entry.rank = rank;
      entry.groups = {{.name = "world", .ranks = {0, 1, 2, 3}},
                      {.name = "tp", .ranks = {rank / 2 * 2, rank / 2 * 2 + 1}},
                      {.name = "dp", .ranks = {rank % 2, rank % 2 + 2}}};
    }
  }
  void enter(int32_t rank, const std::string& group, uint64_t number, int64_t count = 8) {
    Record& record = records[static_cast<size_t>(rank)];
    record.ledger.push_back({.rank = rank,
                             .sequence = record.ledger.size() + 1,
                             .epoch = 1,
                             .op = "all_gather",
                             .group = group,
                             .number = number,
                             .dtype = "f32",
                             .count = count,
                             .finished = true});
  }
  Record merged() const {
    Result<Record> all = merge(records);
    EXPECT_TRUE(all.ok()) << all.status().message();
    return all.ok() ? *std::move(all) : Record{};
  }
};

// "tp 1 of 0,1 at 1"
std::vector<std::string> said(const std::vector<Meeting>& meetings) {
  std::vector<std::string> lines;
  for (const Meeting& meeting : meetings) {
    std::string ranks;
    for (const LedgerEntry* entry : meeting.entered) ranks += concat(ranks.empty() ? "" : ",", entry->rank);
    lines.push_back(concat(meeting.group, " ", meeting.number, " of ", ranks, " at ", meeting.order));
  }
  return lines;
}

TEST(RecordMerge, PutsCollectivesInTheOrderThatTheirMembersLeaveNoChoiceAbout) {
  Job job;
  for (const int32_t rank : {0, 1}) job.enter(rank, "tp", 5);
  for (const int32_t rank : {0, 2}) job.enter(rank, "dp", 1);
  for (const int32_t rank : {2, 3}) job.enter(rank, "tp", 9);
  for (const int32_t rank : {0, 1, 2, 3}) job.enter(rank, "world", 2);

  const Record record = job.merged();

  EXPECT_EQ(said(meetings_of(record)),
            (std::vector<std::string>{"tp 5 of 0,1 at 1", "dp 1 of 0,2 at 2", "tp 9 of 2,3 at 3",
                                      "world 2 of 0,1,2,3 at 4"}));
  EXPECT_EQ(record.ledger.front().rank, 0);
  EXPECT_EQ(record.ledger.back().rank, 3);
  EXPECT_EQ(record.ledger.back().order, 4u);
}

TEST(RecordMerge, GivesTheSameNumberToCollectivesOfWhichNeitherWasFirst) {
  Job job;
  for (const int32_t rank : {2, 3, 0, 1}) job.enter(rank, "tp", 1);

  EXPECT_EQ(said(meetings_of(job.merged())),
            (std::vector<std::string>{"tp 1 of 0,1 at 1", "tp 1 of 2,3 at 1"}));
}

TEST(RecordMerge, KeepsOneCollectiveTogetherThoughItsRanksSayDifferentThings) {
  Job job;
  job.enter(0, "tp", 3, 8);
  job.enter(1, "tp", 3, 9);

  EXPECT_EQ(said(meetings_of(job.merged())), std::vector<std::string>{"tp 3 of 0,1 at 1"});
}

// Ranks that a file says to have waited for each other in a circle, twice at one collective, or in no group.
TEST(RecordMerge, FindsAnEndOfLedgersThatNoRunLeavesBehind) {
  Job job;
  job.enter(0, "tp", 1);
  job.enter(0, "dp", 1);
  job.enter(2, "dp", 1);
  job.enter(2, "tp", 1);
  job.enter(3, "tp", 1);
  job.enter(3, "dp", 1);
  job.enter(1, "dp", 1);
  job.enter(1, "tp", 1);
  job.enter(1, "tp", 1);
  job.enter(1, "nowhere", 1);
  job.enter(1, "nowhere", 0);

  const Record record = job.merged();

  EXPECT_EQ(record.ledger.size(), 11u);
  for (const LedgerEntry& entry : record.ledger) EXPECT_GT(entry.order, 0u);
}

TEST(RecordMerge, OrdersAnyRunAsItRan) {
  const uint64_t seed = 20261121;
  std::cout << "seed " << seed << "\n";
  std::mt19937_64 random(seed);
  for (int run = 0; run < 50; ++run) {
    Job job;
    std::array<uint64_t, 2> dp{}, tp{};
    uint64_t world = 0;
    std::array<std::vector<std::string>, 4> lived;  // what each rank met, in its order
    for (int i = 0; i < 60; ++i) {
      const auto which = static_cast<int32_t>(random() % 5);
      std::vector<int32_t> ranks = {0, 1, 2, 3};
      std::string group = "world";
      if (which == 1 || which == 2) group = "tp", ranks = {which * 2 - 2, which * 2 - 1};
      if (which >= 3) group = "dp", ranks = {which - 3, which - 1};
      uint64_t& number = group == "world" ? world : group == "tp" ? tp[ranks[0] / 2] : dp[ranks[0]];
      ++number;
      for (const int32_t rank : ranks) {
        job.enter(rank, group, number);
        lived[static_cast<size_t>(rank)].push_back(concat(group, number));
      }
    }
    const Record record = job.merged();
    std::array<std::vector<std::string>, 4> told;
    uint64_t last = 0;
    for (const LedgerEntry& entry : record.ledger) {
      EXPECT_GE(entry.order, last);
      last = entry.order;
      told[static_cast<size_t>(entry.rank)].push_back(concat(entry.group, entry.number));
    }
    EXPECT_EQ(told, lived);
  }
}

TEST(RecordMerge, PutsStepsSideBySideAndACauseBeforeThoseWhoWereTold) {
  Job job;
  for (const int32_t rank : {3, 2, 1, 0}) {
    Record& record = job.records[static_cast<size_t>(rank)];
    for (const uint64_t epoch : {4, 5}) record.steps.push_back({.rank = rank, .epoch = epoch});
    FaultEntry& fault = record.faults.emplace_back();
    fault.on_rank = rank;
    fault.told = rank != 2;
  }

  const Record record = job.merged();

  EXPECT_EQ(record.steps[2].rank, 2);
  EXPECT_EQ(record.steps[3].epoch, 4u);
  EXPECT_EQ(record.steps[4].epoch, 5u);
  EXPECT_EQ(record.faults[0].on_rank, 2);
  EXPECT_EQ(record.faults[1].on_rank, 0);
}

TEST(RecordMerge, RefusesOneRankTwiceAndRanksOfDifferentJobs) {
  const Job job;
  Record other;
  other.ranks.push_back({.rank = 7});

  EXPECT_EQ(merge({job.records[0], job.records[0]}).status().message(),
            "records: rank 0 comes twice; expected one record of each rank");
  EXPECT_EQ(merge({job.records[0], other}).status().message(),
            "records: rank 7 is of a job of 1 ranks; expected 4 as of rank 0; give records of one run");
}

TEST(LaunchClock, CountsTheCollectivesBeforeALaunch) {
  Record record;
  for (const int32_t order : {5, 1, 3}) {
    for (const int32_t rank : {0, 1}) {
      record.launches.push_back({.at = {.rank = rank, .step = 2, .order = order, .collective = order < 4}});
      record.launches.push_back({.at = {.rank = rank, .step = 1, .order = order, .collective = true}});
    }
  }
  const LaunchClock clock(record);
  const LaunchTime first = clock.time_of({.rank = 0, .step = 2, .order = 1});
  const LaunchTime later = clock.time_of({.rank = 1, .step = 2, .order = 5});
  const LaunchTime beside = clock.time_of({.rank = 1, .step = 2, .order = 4});

  EXPECT_EQ(first.collectives, 0);
  EXPECT_EQ(later.collectives, 2);
  EXPECT_TRUE(first.before(later));
  EXPECT_FALSE(beside.before(later)) << "no collective lies between";
  EXPECT_LT(beside, later);
}

}  // namespace
}  // namespace lockstep
