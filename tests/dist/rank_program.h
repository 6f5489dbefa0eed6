// What programs of ranks have in common: started by hand one is the front of its ranks, started by a launcher
// it is one of them, as lockstep is.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/rank_session.h"

namespace lockstep::testing {

// `words`: the command line, which every rank gets too. `work`: what a rank does; what it ends with is
// printed as "drill: ...", every line of it. Gives the exit code.
int run_rank_program(const std::vector<std::string>& words, const MeshShape& shape,
                     const std::function<Status(RankSession&)>& work);

// "drill: rank R pid P phase PHASE" on stderr.
void say_phase(int32_t rank, std::string_view phase);

}  // namespace lockstep::testing
