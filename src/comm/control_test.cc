#include "comm/control.h"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <functional>

#include "base/clock.h"
#include "base/fault.h"
#include "comm/thread_control.h"
#include "comm/thread_fabric.h"

namespace lockstep {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr WatchLimits kQuick{
    .beat = 10 * kMs, .silence = 200 * kMs, .stuck = 200 * kMs, .exchange = 400 * kMs, .turn = 100 * kMs};

// One rank, played by the test itself: its control thread is real, its compute thread is what the test does.
struct Player {
  Ledger ledger;
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<Status> failures;      // what closed its mesh
  std::vector<std::string> reports;  // what it said
  std::vector<Status> ends;          // how its process would have been ended
  std::unique_ptr<Control> control;

  template <typename What>
  void note(std::vector<What>& where, const What& what) {
    const std::lock_guard lock(mutex);
    where.push_back(what);
    changed.notify_all();
  }
  // False when that did not happen within a time that no test needs.
  bool wait(const std::function<bool()>& happened) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, std::chrono::seconds(20), happened);
  }
};

class ControlOf : public ::testing::Test {
 protected:
  void start(int32_t ranks, int64_t grace_ms = 60'000) {
    const auto boxes = std::make_shared<ThreadMailboxes>(ranks);
    for (int32_t rank = 0; rank < ranks; ++rank) {
      Player& player = *players_.emplace_back(std::make_unique<Player>());
      player.control = std::make_unique<Control>(
          std::make_unique<ThreadControlChannel>(boxes, rank), player.ledger,
          ControlOptions{.shape = {.tp = ranks},
                         .limits = kQuick,
                         .fail = [&player](const Status& why) { player.note(player.failures, why); },
                         .say = [&player](const std::string& text) { player.note(player.reports, text); },
                         .end = [&player](const Status& why) { player.note(player.ends, why); },
                         .grace = grace_ms * kMs});
    }
  }
  // Ends a rank as SIGKILL would: without a word.
  void kill(int32_t rank) { players_[static_cast<size_t>(rank)]->control.reset(); }
  Player& operator[](int32_t rank) { return *players_[static_cast<size_t>(rank)]; }

  std::vector<std::unique_ptr<Player>> players_;
};

TEST_F(ControlOf, EndsInPeaceWhenAllRanksLeaveInAnyOrder) {
  start(3);
  std::vector<std::jthread> ranks;
  std::vector<Status> ends(3);
  for (const int32_t rank : {2, 0, 1}) {
    ranks.emplace_back([&, rank] {
      ends[static_cast<size_t>(rank)] = (*this)[rank].control->leave({});
      kill(rank);
    });
  }
  ranks.clear();
  for (const Status& end : ends) EXPECT_TRUE(end.ok()) << end.message();
  for (const auto& player : players_) EXPECT_TRUE(player->failures.empty());
}

TEST_F(ControlOf, TellsEveryLivingRankTheSameAboutOneThatDied) {
  start(3);
  kill(1);
  for (const int32_t rank : {0, 2}) {
    Player& player = (*this)[rank];
    ASSERT_TRUE(player.wait([&] { return !player.failures.empty(); })) << rank;
    EXPECT_EQ(player.failures.size(), 1u);
    EXPECT_EQ(player.failures[0].code(), Code::kDevice);
    ASSERT_NE(player.failures[0].fault(), nullptr);
    EXPECT_EQ(player.failures[0].fault()->check, "G1");
    EXPECT_EQ(player.failures[0].fault()->rank, 1);
    EXPECT_FALSE(player.control->leave({}).ok());
  }
  EXPECT_EQ((*this)[0].reports, (*this)[2].reports);
}

TEST_F(ControlOf, TellsEveryRankWhoIsMissingInACollective) {
  start(2);
  (*this)[0].ledger.begin_step(9);
  (*this)[0].ledger.enter({.op = "all_gather", .group = "tp", .count = 64, .number = 1});
  for (const int32_t rank : {0, 1}) (*this)[rank].control->pulse().phase = RankPhase::kDecode;

  for (const int32_t rank : {0, 1}) {
    Player& player = (*this)[rank];
    ASSERT_TRUE(player.wait([&] { return !player.failures.empty(); })) << rank;
    EXPECT_NE(player.reports[0].find("in tp all_gather f32 64 (#1): rank 0 (tp 0); missing: rank 1 (tp 1)"),
              std::string::npos)
        << player.reports[0];
  }
}

TEST_F(ControlOf, GivesEveryRankTheReasonThatOneOfThemFailedWith) {
  start(3);
  const Status why = broken({.check = "R2", .moment = Moment::kReplay, .field = "seq_lens", .row = 3});

  EXPECT_EQ((*this)[1].control->leave(why).message(), why.message());

  for (const int32_t rank : {0, 2}) {
    Player& player = (*this)[rank];
    ASSERT_TRUE(player.wait([&] { return !player.failures.empty(); })) << rank;
    EXPECT_EQ(player.failures[0].message(), "rank 1: " + why.message());
    EXPECT_EQ(player.failures[0].fault()->field, "seq_lens");
    EXPECT_EQ(player.control->leave({}).message(), "rank 1: " + why.message());
  }
}

TEST_F(ControlOf, EndsAProcessWhoseComputeThreadDoesNotComeBack) {
  start(2, 50);
  kill(1);
  Player& stuck = (*this)[0];

  ASSERT_TRUE(stuck.wait([&] { return !stuck.ends.empty(); }));

  EXPECT_EQ(stuck.ends.size(), 1u);
  EXPECT_EQ(stuck.ends[0].message(), stuck.failures[0].message());
}

TEST_F(ControlOf, LeavesAProcessAloneWhoseComputeThreadCameBack) {
  start(2, 300);
  kill(1);
  Player& alive = (*this)[0];
  ASSERT_TRUE(alive.wait([&] { return !alive.failures.empty(); }));
  EXPECT_FALSE(alive.control->leave(alive.failures[0]).ok());

  std::unique_lock lock(alive.mutex);
  EXPECT_FALSE(
      alive.changed.wait_for(lock, std::chrono::milliseconds(600), [&] { return !alive.ends.empty(); }));
}

TEST_F(ControlOf, WaitsInLeavingForARankThatStillWorks) {
  start(2);
  std::atomic<bool> left = false;
  std::jthread first([&] {
    EXPECT_TRUE((*this)[0].control->leave({}).ok());
    left = true;
  });
  Player& second = (*this)[1];
  const int64_t end = now_ns() + 500 * kMs;  // longer than every limit
  second.control->pulse().phase = RankPhase::kDecode;
  while (now_ns() < end) {
    ++second.control->pulse().work;
    EXPECT_FALSE(left);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_TRUE(second.control->leave({}).ok());
  first.join();
  EXPECT_TRUE((*this)[0].failures.empty());
}

// Ranks as threads with a mesh: what a compute thread sees of it.
TEST(Control, FreesRanksThatWaitForOneThatDoesNotCome) {
  constexpr int32_t kRanks = 3;
  const auto boxes = std::make_shared<ThreadMailboxes>(kRanks);
  const auto world = std::make_shared<ThreadWorld>(kRanks, std::chrono::hours(1));  // no deadline of its own
  std::vector<Status> ends(kRanks);
  std::vector<std::jthread> threads;
  for (int32_t rank = 0; rank < kRanks; ++rank) {
    threads.emplace_back([&, rank] {
      const auto mesh = Mesh::create({.tp = kRanks}, std::make_unique<ThreadFabric>(world, rank));
      Control control(std::make_unique<ThreadControlChannel>(boxes, rank), (*mesh)->ledger(),
                      {.shape = {.tp = kRanks},
                       .limits = kQuick,
                       .fail = [&mesh](const Status& why) { (*mesh)->fail(why); },
                       .say = [](const std::string&) {},
                       .end = [](const Status&) {}});
      control.pulse().phase = RankPhase::kDecode;
      Status& end = ends[static_cast<size_t>(rank)];
      std::array<std::byte, 4> mine{};
      std::array<std::byte, 4 * kRanks> all{};
      while (rank != 1 && end.ok()) end = (*mesh)->tp().all_gather(mine, all, DType::kF32);
      while (rank == 1 && end.ok()) end = (*mesh)->status();
      EXPECT_FALSE(control.leave(end).ok());
    });
  }
  threads.clear();
  for (const Status& end : ends) {
    EXPECT_EQ(end.code(), Code::kDevice);
    EXPECT_EQ(end.message(), ends[0].message());
    ASSERT_NE(end.fault(), nullptr);
    EXPECT_EQ(end.fault()->consumer, "rank 1 (tp 1)");
  }
}

TEST(ControlMessage, ComesBackAsItWasSent) {
  const Notice notice{.from = 3,
                      .status = broken({.check = "G1",
                                        .moment = Moment::kGroup,
                                        .consumer = "rank 2",
                                        .field = "participation",
                                        .row = 4,
                                        .rank = 2,
                                        .step = 77,
                                        .expected = "x",
                                        .found = "y"}),
                      .report = "two\nlines\n"};
  Ledger ledger;
  ledger.begin_step(5);
  for (int i = 0; i < 6; ++i) {
    ledger.enter({.op = "a_collective_of_a_long_name",
                  .group = "experts",
                  .dtype = DType::kBF16,
                  .count = i,
                  .number = static_cast<uint64_t>(i),
                  .at = {.stage = "moe_sum", .layer = 3}});
    if (i < 5) ledger.leave();
  }
  Beat beat{.rank = 1, .phase = RankPhase::kReplay, .work = 9};
  add_ledger(ledger, beat);

  const Result<ControlMessage> back = decode(encode(notice));
  const Result<ControlMessage> alive = decode(encode(beat));

  ASSERT_TRUE(back.ok() && alive.ok());
  const Notice& read = std::get<Notice>(*back);
  EXPECT_EQ(read.status.message(), notice.status.message());
  EXPECT_EQ(read.status.fault()->message(), notice.status.fault()->message());
  EXPECT_EQ(read.status.fault()->rank, 2);
  EXPECT_EQ(read.report, notice.report);
  const Beat& heard = std::get<Beat>(*alive);
  EXPECT_EQ(heard.entered, 6u);
  EXPECT_EQ(heard.epoch, 5u);
  EXPECT_TRUE(heard.inside);
  ASSERT_EQ(heard.entries, 4u);
  EXPECT_EQ(text_of(heard.last[3]), "experts a_collective_of bf16 5 at layer 3 moe_sum (#5)");
  EXPECT_TRUE(heard.last[2].finished);
}

TEST(ControlMessage, RefusesWhatNoRankHasSent) {
  std::vector<std::byte> bytes =
      encode(Notice{.from = 1, .status = error(Code::kDevice, "x"), .report = "y"});
  for (size_t cut = 0; cut < bytes.size(); ++cut) {
    EXPECT_FALSE(decode(std::span(bytes).first(cut)).ok()) << cut;
  }
  bytes.push_back(std::byte{0});
  EXPECT_EQ(decode(bytes).status().message(),
            concat("control: a message of ", bytes.size(),
                   " bytes is none of this build's; expected ranks of one build"));
}

}  // namespace
}  // namespace lockstep
