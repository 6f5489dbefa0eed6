#include "engine/rank_records.h"

#include <gtest/gtest.h>

#include <fstream>

#include "engine/record_file.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;

class RankRecords : public testing::Test {
 protected:
  RankRecords() { fs::create_directories(folder_); }
  ~RankRecords() override { fs::remove_all(folder_); }

  void write(int32_t rank, uint64_t step, int32_t world = 3) const {
    Record record;
    record.ranks.push_back({.rank = rank});
    GroupEntry& group = record.ranks.back().groups.emplace_back();
    group.name = "world";
    for (int32_t r = 0; r < world; ++r) group.ranks.push_back(r);
    record.steps.push_back({.rank = rank, .epoch = step});
    ASSERT_TRUE(write_record(record, folder_).ok());
  }
  // "0@7 1@7; 0@40"
  std::string moments() const {
    std::string text;
    for (const RankRecordFiles& moment : rank_records_in(folder_)) {
      if (!text.empty()) text += "; ";
      for (size_t i = 0; i < moment.size(); ++i)
        text += concat(i > 0 ? " " : "", moment[i].rank, "@", moment[i].step);
    }
    return text;
  }

  const std::string folder_ = testing::TempDir() + "lockstep-rank-records";
};

TEST_F(RankRecords, OfOneMomentAreThoseOfDifferentRanksAFewStepsApart) {
  for (const int32_t rank : {2, 0, 1}) write(rank, rank == 2 ? 8 : 7);
  write(0, 9);
  write(1, 80);
  write(0, 80);
  for (const char* other : {"lockstep-7.merged.record", "lockstep-1.record", "lockstep--1-4.record",
                            "lockstep-1-4x.record", "notes.txt"})
    std::ofstream(folder_ + "/" + other) << "nothing";

  EXPECT_EQ(moments(), "0@7 1@7 2@8; 0@9; 0@80 1@80");
}

TEST_F(RankRecords, AreMergedIntoOneFileForEachMoment) {
  for (const int32_t rank : {0, 1, 2}) write(rank, 7);
  write(1, 90);

  const Result<std::vector<std::string>> paths = merge_rank_records(folder_, {});

  ASSERT_TRUE(paths.ok()) << paths.status().message();
  EXPECT_EQ(*paths, std::vector<std::string>{folder_ + "/lockstep-7.merged.record"});
  const Result<Record> merged = read_record(paths->front());
  ASSERT_TRUE(merged.ok());
  EXPECT_EQ(merged->ranks.size(), 3u);
  EXPECT_EQ(merged->steps.size(), 3u);
}

TEST_F(RankRecords, OfEarlierJobsAreLeftAlone) {
  for (const int32_t rank : {0, 1}) write(rank, 7);
  const auto later = fs::file_time_type::clock::now() + std::chrono::hours(1);

  EXPECT_TRUE(rank_records_in(folder_, later).empty());
  EXPECT_EQ(merge_rank_records(folder_, later)->size(), 0u);
  EXPECT_TRUE(rank_records_in(folder_ + "/nowhere").empty());
}

TEST_F(RankRecords, OfDifferentJobsAreRefused) {
  write(0, 7);
  write(1, 7, 2);

  EXPECT_EQ(merge_rank_records(folder_, {}).status().message(),
            "records: rank 1 is of a job of 2 ranks; expected 3 as of rank 0; give records of one run");
}

}  // namespace
}  // namespace lockstep
