// A program of ranks with an engine, one of which goes wrong (tests/ranks/wrong_rank.h), for drills.
//
//   disagree_ranks MODEL --list             one line per drill: its name, fault and rank, with tabs between
//   disagree_ranks MODEL --drill NAME       MODEL: folder of a checkpoint with experts
//   disagree_ranks MODEL --drill NAME --gpus   two ranks, each on a GPU of its own
//
// Each rank says "drill: rank R pid P phase right" on stderr when it begins; the one that goes wrong says
// "phase wrong" right before. What a rank ends with follows behind "drill: rank R says:".
#include <algorithm>
#include <cstdio>

#include "../ranks/wrong_rank.h"
#include "rank_program.h"

namespace lockstep::testing {
namespace {

int list_drills() {
  for (const RankDrill& drill : rank_drills()) {
    const std::string line = concat(drill.name, "\t", drill.fault, "\t", drill.rank, "\n");
    std::fputs(line.c_str(), stdout);
  }
  return 0;
}

// Of two ranks: who leads a replica without requests does so there, everybody else follows.
MeshShape shape_on_gpus(const RankDrill& drill) {
  return drill.rank == 2 ? MeshShape{.dp = 2, .expert_parallel = true} : MeshShape{.tp = 2};
}

int run(const std::vector<std::string>& words) {
  if (words.size() == 2 && words[1] == "--list") return list_drills();
  for (const RankDrill& drill : rank_drills()) {
    if (words.size() < 3 || words[1] != "--drill" || words[2] != drill.name) continue;
    const bool gpus = words.size() == 4 && words[3] == "--gpus";
    return run_rank_program(words, gpus ? shape_on_gpus(drill) : kDrillShape, [&](RankSession& session) {
      Mesh& mesh = session.mesh();
      RankDrill here = drill;
      here.rank = std::min(here.rank, mesh.world().size() - 1);
      RankStage stage{.drill = here, .mesh = mesh, .pulse = &session.pulse(), .model = words[0]};
      if (gpus) stage.device = concat("cuda:", mesh.rank());
      stage.goes_wrong = [&mesh] { say_phase(mesh.rank(), "wrong"); };
      say_phase(mesh.rank(), "right");
      return play_rank(stage);
    });
  }
  std::fputs("disagree_ranks: expected MODEL --list or MODEL --drill NAME [--gpus]\n", stderr);
  return 2;
}

}  // namespace
}  // namespace lockstep::testing

int main(int argc, char** argv) { return lockstep::testing::run({argv + 1, argv + argc}); }
