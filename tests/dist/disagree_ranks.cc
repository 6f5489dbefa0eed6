// A program of ranks with an engine, one of which goes wrong (tests/ranks/wrong_rank.h), for drills.
//
//   disagree_ranks MODEL --list             one line per drill: its name, fault and rank, with tabs between
//   disagree_ranks MODEL --drill NAME       MODEL: folder of a checkpoint with experts
//
// Each rank says "drill: rank R pid P phase right" on stderr when it begins; the one that goes wrong says
// "phase wrong" right before. What a rank ends with follows behind "drill: rank R says:".
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

int run(const std::vector<std::string>& words) {
  if (words.size() == 2 && words[1] == "--list") return list_drills();
  for (const RankDrill& drill : rank_drills()) {
    if (words.size() != 3 || words[1] != "--drill" || words[2] != drill.name) continue;
    return run_rank_program(words, kDrillShape, [&](RankSession& session) {
      Mesh& mesh = session.mesh();
      say_phase(mesh.rank(), "right");
      return play_rank(
          {.drill = drill, .mesh = mesh, .pulse = &session.pulse(), .model = words[0], .goes_wrong = [&mesh] {
             say_phase(mesh.rank(), "wrong");
           }});
    });
  }
  std::fputs("disagree_ranks: expected MODEL --list or MODEL --drill NAME\n", stderr);
  return 2;
}

}  // namespace
}  // namespace lockstep::testing

int main(int argc, char** argv) { return lockstep::testing::run({argv + 1, argv + argc}); }
