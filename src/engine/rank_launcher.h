// How this process came to be a rank: which launcher started it, if any.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "comm/mesh.h"

namespace lockstep {

// What a launcher says about this process in its environment.
struct LaunchedRank {
  std::string_view launcher;  // "mpirun", "srun": static storage
  int32_t rank = 0;
  int32_t size = 1;
  int32_t on_host = 1;  // ranks of this job on this host
};

// The value of a variable; null when it is not set. std::getenv, but for tests.
using Environment = std::function<const char*(const char* name)>;

// OpenMPI, then PMI (MPICH, Intel), then Slurm. Empty when nobody started more than this one process: a shell
// that Slurm gave a single task may start ranks of its own.
std::optional<LaunchedRank> launched_rank(const Environment& environment);

// Whether a launcher started as many ranks as the flags ask for. Errors: kInvalidArgument.
Status check_world(const MeshShape& shape, const LaunchedRank& launched);

// Ranges of --tp, --dp and --cp. Errors: kInvalidArgument.
inline constexpr int32_t kMaxRanks = 1024;
Status check_parallel(const MeshShape& shape);

// Threads of each of `ranks` ranks on a host of `cpus`; at least 1.
int32_t threads_per_rank(int32_t cpus, int32_t ranks);

}  // namespace lockstep
