// A command line that asks for several ranks: either this process is their front, or one of them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/rank_tether.h"

namespace lockstep {

// What the launcher's environment says about this process; empty: it is no rank.
std::optional<LaunchedRank> this_rank();
// Whether this process may write what a person reads once: it is alone, a front, or rank 0.
bool speaks();
// Turns stdout into nothing in every rank but 0.
void mute_other_ranks();

// The part that this process plays in a command that may have ranks, for as long as the command runs.
class RankPart {
 public:
  // Errors: kInvalidArgument for a shape out of range, or another number of ranks than the launcher started.
  static Result<RankPart> of(const MeshShape& shape);

  // As a front: runs `words` in ranks of their own and gives the exit code. Empty: the command runs here.
  Result<std::optional<int>> run_as_front(const std::vector<std::string>& words) const;
  // This process is about to end with that exit code. Thread: any.
  void end_with(int code) const;

 private:
  MeshShape shape_;
  std::shared_ptr<RankTether> tether_;  // null: no rank
};

// Ranks of this host, this process included: they share its memory and its CPUs. `ranks` where no launcher
// says how many there are.
int32_t ranks_on_host(int32_t ranks);
// Threads for each of so many ranks of this host where none are asked for.
int32_t share_of_threads(int32_t ranks);

}  // namespace lockstep
