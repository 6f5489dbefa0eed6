#include "guard/record.h"

#include <algorithm>

namespace lockstep {
namespace {

template <typename Enum, size_t N>
std::string_view name_in(const std::array<std::string_view, N>& names, Enum value) {
  const auto at = static_cast<size_t>(value);
  return at < N ? names[at] : std::string_view();
}

// Whether a bucket's image can be laid out at all: check_limits() has bounded every size within the limits.
bool within(const StepLimits& limits, const Bucket& bucket) {
  const auto fits = [](int32_t value, int32_t most) { return value >= 0 && value <= most; };
  return fits(bucket.rows.get(), limits.max_rows) && fits(bucket.seqs.get(), limits.max_seqs) &&
         fits(bucket.logits_rows.get(), limits.max_logits_rows);
}

}  // namespace

std::string_view name_of(RunKind run) {
  return name_in(std::to_array<std::string_view>({"eager", "captured", "replayed", "refused"}), run);
}
std::string_view name_of(Seen seen) {
  return name_in(std::to_array<std::string_view>({"seen", "rerun"}), seen);
}
std::string_view name_of(LayerKind kind) {
  return name_in(std::to_array<std::string_view>(
                     {"softmax", "gated_delta", "moe", "dense", "embedding", "head", "other", "lightning"}),
                 kind);
}
std::string_view name_of(Side side) {
  return name_in(std::to_array<std::string_view>({"input", "output"}), side);
}
std::string_view name_of(Owner owner) {
  return name_in(std::to_array<std::string_view>({"live", "pad", "unowned", "gathered"}), owner);
}
std::string_view name_of(Verdict verdict) {
  return name_in(std::to_array<std::string_view>({"not recorded", "yes", "no"}), verdict);
}

std::optional<StepPlan> plan_of(const Record& record, const StepEntry& step) {
  const RankEntry* rank = rank_entry(record, step.rank);
  if (rank == nullptr || step.plan.bytes.empty()) return std::nullopt;
  if (!check_limits(rank->limits).ok() || !within(rank->limits, step.bucket)) return std::nullopt;
  StepPlan plan;
  if (!plan.load(rank->limits, step.bucket, step.plan.bytes).ok()) return std::nullopt;
  return plan;
}

const RankEntry* rank_entry(const Record& record, int32_t rank) {
  const auto at = std::find_if(record.ranks.begin(), record.ranks.end(),
                               [rank](const RankEntry& entry) { return entry.rank == rank; });
  return at == record.ranks.end() ? nullptr : &*at;
}

std::span<const int32_t> members_of_group(const Record& record, int32_t rank, std::string_view group) {
  const RankEntry* entry = rank_entry(record, rank);
  if (entry == nullptr) return {};
  for (const GroupEntry& each : entry->groups) {
    if (each.name == group) return each.ranks;
  }
  return {};
}

}  // namespace lockstep
