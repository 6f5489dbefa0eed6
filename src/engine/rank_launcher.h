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
  int32_t local = 0;    // this one among them
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

// What a rank's --device means: "cuda" is the GPU of its number among the host's ranks, "cuda:2,5" the one in
// its place of the list; the rest stays as it is. Errors: kInvalidArgument for a list that is shorter than
// the ranks of the host, or names a GPU twice.
Result<std::string> device_of_rank(std::string_view device, const LaunchedRank& rank);

// Threads of each of `ranks` ranks on a host of `cpus`; at least 1.
int32_t threads_per_rank(int32_t cpus, int32_t ranks);

}  // namespace lockstep
