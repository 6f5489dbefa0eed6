// Field report 2 as it was set up: four ranks, tensor parallel over two, two replicas whose experts are
// shared by all. Replica 0 has rows that nobody owns; nothing is wrong with replica 1, but that it hears of
// them.
#include <gtest/gtest.h>

#include <cstdlib>
#include <set>
#include <thread>

#include "comm/thread_fabric.h"
#include "fr2_rank.h"
#include "guard/record_merge.h"

namespace lockstep {
namespace {

using namespace fr2;

constexpr MeshShape kShape{.tp = 2, .dp = 2, .expert_parallel = true};
constexpr std::chrono::seconds kDeadline{60};

// The records of all ranks after the step.
std::vector<Record> run_ranks(bool wrong) {
  const auto world = std::make_shared<ThreadWorld>(kShape.world(), kDeadline);
  std::vector<Record> records(static_cast<size_t>(kShape.world()));
  std::vector<std::thread> threads;
  for (int32_t rank = 0; rank < kShape.world(); ++rank) {
    threads.emplace_back([&, rank] {
      const auto mesh = Mesh::create(kShape, std::make_unique<ThreadFabric>(world, rank)).value();
      Rank each(true, mesh.get());
      const bool first = mesh->place().dp == 0;
      each.run(first && wrong ? each.rank_0_of_the_report() : each.right_plan(first ? kShort : kLong));
      records[static_cast<size_t>(rank)] = each.record();
    });
  }
  for (std::thread& thread : threads) thread.join();
  return records;
}

// "rank 2 out gathered 26..29"
std::set<std::string> said(const Record& record) {
  std::set<std::string> lines;
  for (const Finding& finding : record.findings) {
    const std::vector<int32_t>& rows = finding.rows;
    lines.insert(
        concat("rank ", finding.at.rank, " ", name_of(finding.owner), " ", rows.front(), "..", rows.back()));
  }
  return lines;
}

TEST(FieldReport2Ranks, TheOtherReplicaOnlyReceives) {
  const std::vector<Record> records = run_ranks(true);
  const Result<Record> merged = merge(records);
  ASSERT_TRUE(merged.ok()) << merged.status().message();

  for (size_t rank = 0; rank < 4; ++rank) {
    ASSERT_EQ(records[rank].first_bad_launch.size(), 1u) << rank;
    const LaunchPlace& first = records[rank].first_bad_launch[0].at;
    EXPECT_EQ(first.op, rank < 2 ? "vendor_attention" : "gather_rows_of_ranks") << rank;
    EXPECT_EQ(first.collective, rank >= 2) << rank;
  }
  EXPECT_EQ(said(records[2]), (std::set<std::string>{"rank 2 gathered 26..29"}));
  EXPECT_EQ(said(records[3]), (std::set<std::string>{"rank 3 gathered 26..29"}));
  for (const Meeting& meeting : meetings_of(*merged))
    EXPECT_EQ(meeting.entered.size(), meeting.members.size()) << meeting.group << " " << meeting.number;
  // For tests/cli/field_report_2.py, which has them explained by the product.
  if (const char* folder = std::getenv("LOCKSTEP_RECORD_DIR")) {
    for (const Record& record : records) ASSERT_TRUE(write_record(record, folder).ok());
  }
}

TEST(FieldReport2Ranks, ShowNothingWherePlansAreRight) {
  for (const Record& record : run_ranks(false)) EXPECT_TRUE(record.findings.empty());
}

}  // namespace
}  // namespace lockstep
