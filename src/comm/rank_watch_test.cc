#include "comm/rank_watch.h"

#include <gtest/gtest.h>

#include "base/fault.h"

namespace lockstep {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr MeshShape kFour{.tp = 2, .dp = 2};

// Ranks that beat every 250 ms, as one of them sees it, on a clock that the test owns.
class Ranks {
 public:
  Ranks(int32_t me, int32_t ranks) : watch_(shape_of(ranks), me, WatchLimits{}) {
    for (int32_t rank = 0; rank < ranks; ++rank)
      beats_.push_back({.rank = rank, .phase = RankPhase::kDecode, .epoch = 17});
  }

  Beat& operator[](int32_t rank) { return beats_[static_cast<size_t>(rank)]; }
  void mute(int32_t rank) { muted_ = rank; }
  // Lets a rank beat only every `ms`.
  void slow(int32_t rank, int64_t ms) {
    slow_ = rank;
    slow_ms_ = ms;
  }
  // What a rank does unless the test says otherwise: it gets on.
  void getting_on(bool on) { getting_on_ = on; }

  // Lets time pass until there is a verdict or `ms` are over; looks every `look_ms`.
  std::optional<Notice> pass(int64_t ms, int64_t look_ms = 50) {
    for (const int64_t end = now_ + ms * kMs; now_ < end;) {
      now_ += look_ms * kMs;
      if (now_ - beat_at_ >= 250 * kMs) beat();
      if (std::optional<Notice> verdict = watch_.look(now_)) return verdict;
    }
    return std::nullopt;
  }
  int64_t ms() const { return (now_ - kStart) / kMs; }
  const RankWatch& watch() const { return watch_; }

 private:
  static constexpr int64_t kStart = 1'000'000 * kMs;
  static MeshShape shape_of(int32_t ranks) { return ranks == 4 ? kFour : MeshShape{.tp = ranks}; }
  void beat() {
    beat_at_ = now_;
    for (Beat& beat : beats_) {
      if (getting_on_ && !beat.inside) ++beat.work;
      const bool late = beat.rank == slow_ && now_ - slow_at_ < slow_ms_ * kMs;
      if (beat.rank == slow_ && !late) slow_at_ = now_;
      if (beat.rank != muted_ && !late) watch_.heard(beat, now_);
    }
  }

  RankWatch watch_;
  int32_t muted_ = -1;
  int32_t slow_ = -1;
  int64_t slow_ms_ = 0;
  int64_t slow_at_ = 0;
  bool getting_on_ = true;
  int64_t now_ = kStart;
  int64_t beat_at_ = 0;
  std::vector<Beat> beats_;
};

void enter(Beat& beat, const char* group, uint64_t number) {
  BeatEntry& entry = beat.last[0] = {.sequence = number, .epoch = 17, .count = 2048, .number = number};
  std::copy_n("all_gather", 10, entry.op.data());
  std::copy_n(group, std::char_traits<char>::length(group), entry.group.data());
  beat.entries = 1;
  beat.entered = number;
  beat.inside = true;
}

TEST(RankWatch, LeavesRanksAloneThatGetOn) {
  Ranks ranks(0, 4);
  EXPECT_FALSE(ranks.pass(3'600'000, 250));
}

TEST(RankWatch, NamesARankThatFellSilentWithinTenSeconds) {
  Ranks ranks(0, 4);
  ASSERT_FALSE(ranks.pass(1'000));
  ranks.mute(2);
  const int64_t since = ranks.ms();

  const std::optional<Notice> verdict = ranks.pass(10'000);

  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->status.code(), Code::kDevice);
  EXPECT_EQ(
      verdict->status.message(),
      "step 17: G1 rank 2 (dp 1, tp 0): participation is silent for 5.0 s; expected a sign of life within "
      "5.0 s");
  EXPECT_EQ(verdict->status.fault()->field, "participation");
  EXPECT_EQ(verdict->status.fault()->rank, 2);
  EXPECT_LT(ranks.ms() - since, 5'500);
}

TEST(RankWatch, LetsTheFirstLivingRankSpeakForAll) {
  Ranks first(0, 4), later(3, 4);
  first.mute(1);
  later.mute(1);

  EXPECT_TRUE(first.pass(5'300));
  EXPECT_FALSE(later.pass(5'300));  // it waits for the first one's word
  EXPECT_TRUE(later.pass(3'500));   // and speaks when there is none
}

TEST(RankWatch, WaitsLongerForAFirstRankThatHardlyRuns) {
  Ranks later(3, 4);
  ASSERT_FALSE(later.pass(1'000));
  later.mute(1);
  later.slow(0, 1'000);  // it beats once a second: its own five seconds take it ten

  EXPECT_FALSE(later.pass(11'000));
  EXPECT_TRUE(later.pass(8'000));
}

TEST(RankWatch, SpeaksForAllWhenThoseBeforeItAreDead) {
  Ranks ranks(1, 4);
  ranks.mute(0);
  EXPECT_TRUE(ranks.pass(5'300));
}

TEST(RankWatch, NamesARankThatDoesNotGetOnWhileOthersWait) {
  Ranks ranks(0, 4);
  ASSERT_FALSE(ranks.pass(2'000));
  ranks.getting_on(false);
  for (const int32_t rank : {0, 1, 3}) enter(ranks[rank], "experts", 103);

  const std::optional<Notice> verdict = ranks.pass(10'000);

  ASSERT_TRUE(verdict);
  EXPECT_EQ(
      verdict->status.message(),
      "step 17: G1 rank 2 (dp 1, tp 0): participation is outside of every collective without getting on, "
      "while rank 0 (dp 0, tp 0), rank 1 (dp 0, tp 1), rank 3 (dp 1, tp 1) wait; expected work or a "
      "collective within 5.0 s");
  EXPECT_EQ(
      verdict->report,
      verdict->status.message() +
          "\n"
          "rank                 last heard  phase   step  unmoved for  last collectives, newest last\n"
          "rank 0 (dp 0, tp 0)   0.0 s ago  decode    17        5.0 s  experts all_gather f32 2048 (#103) in "
          "it\n"
          "rank 1 (dp 0, tp 1)   0.1 s ago  decode    17        5.0 s  experts all_gather f32 2048 (#103) in "
          "it\n"
          "rank 2 (dp 1, tp 0)   0.1 s ago  decode    17        5.2 s\n"
          "rank 3 (dp 1, tp 1)   0.1 s ago  decode    17        5.0 s  experts all_gather f32 2048 (#103) in "
          "it\n"
          "in experts all_gather f32 2048 (#103): rank 0 (dp 0, tp 0), rank 1 (dp 0, tp 1), rank 3 (dp 1, "
          "tp 1); missing: rank 2 (dp 1, tp 0)\n");
}

TEST(RankWatch, TakesALongComputationForNoHang) {
  Ranks ranks(0, 4);
  for (const int32_t rank : {0, 1, 3}) enter(ranks[rank], "experts", 103);
  EXPECT_FALSE(ranks.pass(120'000));  // rank 2 does a launch now and then
}

TEST(RankWatch, WaitsForRanksThatLoadOrAreIdle) {
  for (const RankPhase phase : {RankPhase::kStarting, RankPhase::kIdle}) {
    Ranks ranks(1, 4);
    ranks.getting_on(false);
    ranks[0].phase = phase;
    for (const int32_t rank : {1, 2, 3}) enter(ranks[rank], "world", 1);
    EXPECT_FALSE(ranks.pass(3'600'000, 250)) << name_of(phase);
  }
}

TEST(RankWatch, SaysThatEveryRankIsInACollective) {
  Ranks ranks(0, 4);
  ranks.getting_on(false);
  for (const int32_t rank : {0, 1}) enter(ranks[rank], "tp", 7);
  for (const int32_t rank : {2, 3}) enter(ranks[rank], "tp", 8);

  const std::optional<Notice> verdict = ranks.pass(10'000);

  ASSERT_TRUE(verdict);
  EXPECT_EQ(
      verdict->status.message(),
      "step 17: G1 participation is without end: every rank is within a collective; expected the end of "
      "one within 8.0 s");
  EXPECT_NE(
      verdict->report.find("in tp all_gather f32 2048 (#8): rank 2 (dp 1, tp 0), rank 3 (dp 1, tp 1)\n"),
      std::string::npos)
      << verdict->report;
}

TEST(RankWatch, SaysWhoIsInWhichCollectiveWhenAllWaitForEachOther) {
  Ranks ranks(0, 4);
  ranks.getting_on(false);
  for (const int32_t rank : {0, 3}) enter(ranks[rank], "tp", 7);
  for (const int32_t rank : {1, 2}) enter(ranks[rank], "dp", 9);
  ranks[0].phase = RankPhase::kIdle;

  const std::optional<Notice> verdict = ranks.pass(3'000);

  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->status.code(), Code::kInternal);
  EXPECT_EQ(
      verdict->status.message(),
      "step 17: G1 collective is dp all_gather f32 2048 (#9) on rank 1 (dp 0, tp 1), rank 2 (dp 1, tp 0); tp "
      "all_gather f32 2048 (#7) on rank 0 (dp 0, tp 0), rank 3 (dp 1, tp 1); expected one that all ranks of "
      "its group enter");
}

// Of four ranks in three collectives two are in one that can end; the others may come when it has.
TEST(RankWatch, WaitsWhereACollectiveCanStillEnd) {
  Ranks ranks(0, 4);
  ranks.getting_on(false);
  for (const int32_t rank : {0, 1, 3}) enter(ranks[rank], "tp", 7);
  enter(ranks[2], "dp", 9);

  EXPECT_FALSE(ranks.pass(7'000));
}

TEST(RankWatch, SaysWhoWaitsForARankThatIsDone) {
  Ranks ranks(0, 2);
  enter(ranks[0], "tp", 7);
  ranks[1].phase = RankPhase::kLeft;

  const std::optional<Notice> verdict = ranks.pass(3'000);

  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->status.message(),
            "step 17: G1 collective is nothing more on rank 1 (tp 1); tp all_gather f32 2048 (#7) on rank 0 "
            "(tp 0); expected one that all ranks of its group enter");
}

TEST(RankWatch, CountsOnlyTheTimeThatItWasAwakeFor) {
  Ranks ranks(0, 2);
  ASSERT_FALSE(ranks.pass(1'000));
  ranks.mute(1);

  EXPECT_FALSE(ranks.pass(8'000, 4'000));  // two looks: nobody can say that rank 1 had its chance to speak
  EXPECT_TRUE(ranks.pass(5'000));
}

TEST(RankWatch, DoesNotMissARankThatHasLeft) {
  Ranks ranks(0, 2);
  ranks[1].phase = RankPhase::kLeft;
  ASSERT_FALSE(ranks.pass(1'000));
  ranks.mute(1);

  EXPECT_FALSE(ranks.pass(60'000));
  EXPECT_FALSE(ranks.watch().everybody_left());
  ranks[0].phase = RankPhase::kLeft;
  EXPECT_FALSE(ranks.pass(1'000));
  EXPECT_TRUE(ranks.watch().everybody_left());
}

}  // namespace
}  // namespace lockstep
