#include "engine/rank_launcher.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <set>
#include <vector>

namespace lockstep {
namespace {

struct Variables {
  std::string_view launcher;
  const char* rank;
  const char* size;
  const char* on_host;
  const char* local;
  bool counts_alone;  // whether one process alone was started as a rank, too
};
// Slurm's are those of a step: a batch script has SLURM_NTASKS and is no rank.
constexpr Variables kLaunchers[] = {
    {"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE",
     "OMPI_COMM_WORLD_LOCAL_RANK", true},
    {"mpiexec", "PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS", "MPI_LOCALRANKID", true},
    {"srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_TASKS_PER_NODE", "SLURM_LOCALID", false}};

// Slurm counts hosts in the same breath, "4(x2)": what stands before the bracket counts.
std::optional<int32_t> number(const char* text) {
  if (text == nullptr) return std::nullopt;
  int32_t value = 0;
  const char* end = text + std::strlen(text);
  const auto [rest, failure] = std::from_chars(text, end, value);
  if (failure != std::errc{} || (rest != end && *rest != '(')) return std::nullopt;
  return value;
}

Status check_degree(std::string_view flag, int32_t degree) {
  if (degree >= 1 && degree <= kMaxRanks) return {};
  return error(Code::kInvalidArgument, "ranks: ", flag, " is ", degree, "; expected 1..", kMaxRanks);
}

}  // namespace

std::optional<LaunchedRank> launched_rank(const Environment& environment) {
  for (const Variables& names : kLaunchers) {
    const std::optional<int32_t> rank = number(environment(names.rank));
    const std::optional<int32_t> size = number(environment(names.size));
    if (!rank || !size || *rank < 0 || *rank >= *size) continue;
    if (*size == 1 && !names.counts_alone) continue;
    const int32_t on_host = std::clamp(number(environment(names.on_host)).value_or(*size), 1, *size);
    return LaunchedRank{.launcher = names.launcher,
                        .rank = *rank,
                        .size = *size,
                        .on_host = on_host,
                        .local = number(environment(names.local)).value_or(*rank % on_host)};
  }
  return std::nullopt;
}

Status check_world(const MeshShape& shape, const LaunchedRank& launched) {
  if (launched.size == shape.world()) return {};
  return error(Code::kInvalidArgument, "ranks: ", launched.launcher, " started ", launched.size,
               "; expected --tp ", shape.tp, " * --dp ", shape.dp, " * --cp ", shape.cp, " = ", shape.world(),
               "; start that many, or change these flags");
}

Status check_parallel(const MeshShape& shape) {
  LS_TRY(check_degree("--tensor-parallel-size", shape.tp));
  LS_TRY(check_degree("--data-parallel-size", shape.dp));
  LS_TRY(check_degree("--context-parallel-size", shape.cp));
  const int64_t world = int64_t{shape.tp} * shape.dp * shape.cp;
  if (world <= kMaxRanks) return {};
  return error(Code::kInvalidArgument, "ranks: --tp ", shape.tp, " * --dp ", shape.dp, " * --cp ", shape.cp,
               " is ", world, "; expected at most ", kMaxRanks);
}

Result<std::string> device_of_rank(std::string_view device, const LaunchedRank& rank) {
  constexpr std::string_view kPrefix = "cuda:";
  if (device == "cuda") return concat(kPrefix, rank.local);
  if (!device.starts_with(kPrefix)) return std::string(device);
  std::vector<std::string> listed(1);
  for (const char letter : device.substr(kPrefix.size())) {
    if (letter == ',') {
      listed.emplace_back();
    } else {
      listed.back() += letter;
    }
  }
  const std::set<std::string> distinct(listed.begin(), listed.end());
  if (static_cast<size_t>(rank.on_host) > listed.size() || distinct.size() != listed.size()) {
    return error(Code::kInvalidArgument, "ranks: --device is ", device, " for ", rank.on_host,
                 " ranks of this host; expected a GPU for each of them, as in --device cuda or cuda:0,1");
  }
  return concat(kPrefix, listed[static_cast<size_t>(rank.local)]);
}

int32_t threads_per_rank(int32_t cpus, int32_t ranks) { return std::max(1, cpus / std::max(1, ranks)); }

}  // namespace lockstep
