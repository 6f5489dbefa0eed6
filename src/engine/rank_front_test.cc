#include "engine/rank_front.h"

#include <gtest/gtest.h>

#include "base/fault.h"
#include "engine/exit_codes.h"

namespace lockstep {
namespace {

constexpr int kKilled = 9;  // as wait() gives it
constexpr int kLeft = 0;    // exit code 0
constexpr int kLeftWithOne = 1 << 8;

TEST(RankFront, EndsWithTheCauseAndNotWithWhatFollowedFromIt) {
  const auto code = [](std::vector<RankEnd> ranks) { return judge_job(ranks, {kLeft}, 0).code; };

  EXPECT_EQ(code({{.pid = 1, .code = 0}, {.pid = 2, .code = 0}}), 0);
  EXPECT_EQ(code({{.pid = 1, .code = 72}, {.pid = 2, .code = 71}}), kExitRanksDisagree);
  EXPECT_EQ(code({{.pid = 1, .code = 72}, {.pid = 2, .code = 73}}), kExitGuardFault);
  EXPECT_EQ(code({{.pid = 1, .code = 70}, {.pid = 2, .code = 72}}), kExitDeviceLost);
  EXPECT_EQ(code({{.pid = 1, .code = 72}, {.pid = 2, .code = 1}}), kExitError);
  EXPECT_EQ(code({{.pid = 1, .code = 72}, {.pid = 2, .code = 0}}), kExitRankLost);
}

TEST(RankFront, NamesTheRankThatVanished) {
  const JobEnd end = judge_job({{.pid = 11, .code = 72}, {.pid = 12, .code = std::nullopt}}, {kLeft}, 0);

  EXPECT_EQ(end.code, kExitRankLost);
  EXPECT_EQ(end.said, "ranks: rank 1 (process 12) ended without a word");
}

TEST(RankFront, TellsALauncherThatFailedFromRanksThatDid) {
  EXPECT_EQ(judge_job({{}, {}}, {kLeftWithOne}, 0).said,
            "ranks: the launcher ended with code 1 before any rank began");
  EXPECT_EQ(judge_job({{}, {}}, {kKilled}, 0).said,
            "ranks: the launcher ended with signal 9 before any rank began");
  EXPECT_EQ(judge_job({{}, {}}, {kLeftWithOne}, 0).code, kExitError);
  EXPECT_EQ(judge_job({{.pid = 5, .code = 0}, {}}, {kLeft}, 0).said, "ranks: 1 of 2 ranks began");
}

TEST(RankFront, NamesALauncherThatWasKilledAndNotTheRanksThatEndedForIt) {
  const std::vector<RankEnd> ranks = {{.pid = 5, .code = kExitRankLost}, {.pid = 6, .code = std::nullopt}};

  const JobEnd end = judge_job(ranks, {kKilled}, 0);
  const JobEnd ended = judge_job(ranks, {.status = kKilled, .ended_by_front = true}, 0);

  EXPECT_EQ(end.code, kExitRankLost);
  EXPECT_EQ(
      end.said,
      "ranks: the launcher ended with signal 9; expected it to outlive its ranks, which have ended with "
      "it");
  EXPECT_EQ(ended.said, "ranks: rank 1 (process 6) ended without a word");
}

TEST(RankFront, GivesTheSignalThatAPersonEndedItWith) {
  EXPECT_EQ(judge_job({{.pid = 1, .code = std::nullopt}}, {kKilled}, 15).code, 128 + 15);
}

TEST(RankFront, SaysThatTheLauncherIsMissing) {
  const Result<JobEnd> end =
      run_rank_job({.ranks = 2, .command = {"/bin/true"}, .launcher = "no-such-mpirun"});

  ASSERT_FALSE(end.ok());
  EXPECT_EQ(
      end.status().message(),
      "ranks: no-such-mpirun is not in PATH; 2 ranks are started through it; install openmpi-bin, or ask "
      "for one rank");
}

TEST(ExitCodes, TellMissingRanksFromDisagreementAndFromOtherFaults) {
  const auto fault = std::make_shared<const Fault>(Fault{.check = "G1"});
  EXPECT_EQ(exit_code_of({}), 0);
  EXPECT_EQ(exit_code_of(error(Code::kInvalidArgument, "x")), kExitError);
  EXPECT_EQ(exit_code_of(error(Code::kDevice, "x")), kExitDeviceLost);
  EXPECT_EQ(exit_code_of(Status(Code::kDevice, "x", fault)), kExitRankLost);
  EXPECT_EQ(exit_code_of(Status(Code::kInternal, "x", fault)), kExitRanksDisagree);
  EXPECT_EQ(exit_code_of(broken({.check = "R2"})), kExitGuardFault);
}

}  // namespace
}  // namespace lockstep
