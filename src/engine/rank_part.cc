#include "engine/rank_part.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdio>
#include <cstdlib>

#include "engine/facts.h"
#include "engine/rank_front.h"

namespace lockstep {
namespace {

const char* variable(const char* name) { return std::getenv(name); }

Result<std::string> own_path() {
  std::string path(PATH_MAX, 0);
  const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size());
  if (length <= 0)
    return error(Code::kNotFound, "ranks: /proc/self/exe cannot be read; it names the program");
  path.resize(static_cast<size_t>(length));
  return path;
}

}  // namespace

std::optional<LaunchedRank> this_rank() { return launched_rank(variable); }

bool speaks() {
  const std::optional<LaunchedRank> rank = this_rank();
  return !rank || rank->rank == 0;
}

void mute_other_ranks() {
  if (speaks()) return;
  const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (nowhere < 0) return;
  ::dup2(nowhere, STDOUT_FILENO);
  ::close(nowhere);
}

int32_t ranks_on_host(int32_t ranks) {
  const std::optional<LaunchedRank> rank = this_rank();
  return std::max(1, rank ? rank->on_host : ranks);
}

int32_t share_of_threads(int32_t ranks) { return threads_per_rank(detect_cpu().cpus, ranks); }

Result<RankPart> RankPart::of(const MeshShape& shape) {
  LS_TRY(check_parallel(shape));
  RankPart part;
  part.shape_ = shape;
  if (const std::optional<LaunchedRank> rank = this_rank()) {
    LS_TRY(check_world(shape, *rank));
    part.tether_ = std::make_shared<RankTether>(*rank, variable);
  }
  return part;
}

Result<std::optional<int>> RankPart::run_as_front(const std::vector<std::string>& words) const {
  if (shape_.world() == 1 || tether_ != nullptr) return std::optional<int>{};
  RankJob job{.ranks = shape_.world(), .command = {LS_TRY(own_path())}};
  job.command.insert(job.command.end(), words.begin(), words.end());
  const JobEnd end = LS_TRY(run_rank_job(job));
  if (!end.said.empty()) std::fprintf(stderr, "lockstep: %s\n", end.said.c_str());
  return std::optional<int>{end.code};
}

void RankPart::end_with(int code) const {
  if (tether_ != nullptr) tether_->end_with(code);
}

}  // namespace lockstep
