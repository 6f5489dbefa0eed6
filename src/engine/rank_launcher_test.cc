#include "engine/rank_launcher.h"

#include <gtest/gtest.h>

#include <map>

namespace lockstep {
namespace {

// An environment of these variables alone.
Environment of(std::map<std::string, std::string> variables) {
  return [variables = std::move(variables)](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
}

TEST(RankLauncher, KnowsTheRanksOfEachLauncher) {
  const auto open_mpi = launched_rank(of(
      {{"OMPI_COMM_WORLD_RANK", "3"}, {"OMPI_COMM_WORLD_SIZE", "8"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}}));
  const auto hydra = launched_rank(of({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}}));
  const auto slurm = launched_rank(
      of({{"SLURM_PROCID", "5"}, {"SLURM_STEP_NUM_TASKS", "6"}, {"SLURM_STEP_TASKS_PER_NODE", "3(x2)"}}));

  ASSERT_TRUE(open_mpi && hydra && slurm);
  EXPECT_EQ(open_mpi->launcher, "mpirun");
  EXPECT_EQ(std::tuple(open_mpi->rank, open_mpi->size, open_mpi->on_host), std::tuple(3, 8, 4));
  EXPECT_EQ(hydra->launcher, "mpiexec");
  EXPECT_EQ(std::tuple(hydra->rank, hydra->size, hydra->on_host), std::tuple(1, 2, 2));
  EXPECT_EQ(slurm->launcher, "srun");
  EXPECT_EQ(std::tuple(slurm->rank, slurm->size, slurm->on_host), std::tuple(5, 6, 3));
}

TEST(RankLauncher, GivesEachRankOfAHostAGpuOfItsOwn) {
  const auto third = launched_rank(of({{"OMPI_COMM_WORLD_RANK", "6"},
                                       {"OMPI_COMM_WORLD_SIZE", "8"},
                                       {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
                                       {"OMPI_COMM_WORLD_LOCAL_RANK", "2"}}));
  ASSERT_TRUE(third);
  EXPECT_EQ(*device_of_rank("cuda", *third), "cuda:2");
  EXPECT_EQ(*device_of_rank("cuda:7,5,3,1", *third), "cuda:3");
  EXPECT_EQ(*device_of_rank("cpu", *third), "cpu");
  for (const std::string_view wrong : {"cuda:0", "cuda:0,1,2", "cuda:0,1,1,2"}) {
    EXPECT_EQ(device_of_rank(wrong, *third).status().message(),
              concat("ranks: --device is ", wrong,
                     " for 4 ranks of this host; expected a GPU for each of them, as in --device cuda or "
                     "cuda:0,1"));
  }
}

TEST(RankLauncher, TakesAShellOfSlurmAndAnythingThatIsNoNumberForNoLauncher) {
  EXPECT_FALSE(launched_rank(of({})));
  EXPECT_FALSE(launched_rank(of({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}})));          // a batch script
  EXPECT_FALSE(launched_rank(of({{"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}})));  // a shell
  EXPECT_FALSE(launched_rank(of({{"PMI_RANK", "one"}, {"PMI_SIZE", "2"}})));
  EXPECT_FALSE(launched_rank(of({{"PMI_RANK", "2"}, {"PMI_SIZE", "2"}})));
}

TEST(RankLauncher, SaysThatTheLauncherStartedAnotherNumberOfRanks) {
  const MeshShape shape{.tp = 2, .dp = 2};

  EXPECT_TRUE(check_world(shape, {.launcher = "mpirun", .size = 4}).ok());
  const Status status = check_world(shape, {.launcher = "mpirun", .size = 3});

  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_EQ(
      status.message(),
      "ranks: mpirun started 3; expected --tp 2 * --dp 2 * --cp 1 = 4; start that many, or change these "
      "flags");
}

TEST(RankLauncher, RefusesDegreesOutOfRange) {
  EXPECT_TRUE(check_parallel({.tp = 2, .dp = 2, .cp = 2}).ok());
  EXPECT_EQ(check_parallel({.tp = 0}).message(), "ranks: --tensor-parallel-size is 0; expected 1..1024");
  EXPECT_EQ(check_parallel({.dp = -1}).message(), "ranks: --data-parallel-size is -1; expected 1..1024");
  EXPECT_EQ(check_parallel({.cp = 2000}).message(),
            "ranks: --context-parallel-size is 2000; expected 1..1024");
  EXPECT_EQ(check_parallel({.tp = 1000, .dp = 1000, .cp = 1000}).message(),
            "ranks: --tp 1000 * --dp 1000 * --cp 1000 is 1000000000; expected at most 1024");
}

TEST(RankLauncher, SharesTheCpusOfAHostOut) {
  EXPECT_EQ(threads_per_rank(8, 3), 2);
  EXPECT_EQ(threads_per_rank(2, 4), 1);
  EXPECT_EQ(threads_per_rank(2, 0), 2);
}

}  // namespace
}  // namespace lockstep
