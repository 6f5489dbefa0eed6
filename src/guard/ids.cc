#include "guard/ids.h"

#include "base/fault.h"

namespace lockstep {
namespace {

// What the launch says that there is of a table of which it may have a share; 0 or nothing: it has all.
int64_t whole_of(const LaunchRecord& launch, std::string_view value, int64_t here) {
  const int64_t whole = value_operand(launch, value).value_or(0);
  return whole > 0 ? whole : here;
}

Status check_ids(const StepView& step, const LaunchRecord& launch, const Operand& operand, int64_t entries) {
  const std::span<const OwnedEntry> owners = *owners_of(step, launch, operand);
  std::vector<std::byte> copy;
  const TensorView view = step.memory.look(operand.view, copy);
  for (int64_t row = 0; row < view.dim(0); ++row) {
    const auto at = static_cast<size_t>(row);
    const bool live = at < owners.size() && owners[at].owner == Owner::kLive;
    int64_t bad = 0;
    bool found = false;
    for_each_run(view, row, [&](uintptr_t begin, int64_t bytes) {
      const auto* ids = reinterpret_cast<const int32_t*>(begin);
      for (int64_t i = 0; i < bytes / 4 && !found; ++i) {
        found = ids[i] >= entries || ids[i] < (live ? 0 : -1);
        bad = ids[i];
      }
    });
    if (!found) continue;
    LS_TRY(broken({.check = "P6",
                   .moment = Moment::kLaunch,
                   .consumer = consumer_of(launch),
                   .field = std::string(operand.arg->name),
                   .row = row,
                   .step = step.plan.scalar(field::epoch).get(),
                   .expected = concat("0..", entries - 1, live ? "" : ", or -1 in rows of nobody"),
                   .found = concat(bad)}));
  }
  return {};
}

}  // namespace

int64_t table_entries(const LaunchRecord& launch) {
  for (const OpArg& arg : launch.site.spec->args) {
    if (arg.kind != ArgKind::kWeight || arg.dims.empty()) continue;
    const auto* weight =
        reinterpret_cast<const PackedWeight*>(static_cast<const unsigned char*>(launch.args) + arg.offset);
    if (arg.dims.front() == 'X') return whole_of(launch, "experts", weight->experts);
    if (arg.dims.front() == 'V') return whole_of(launch, "vocab", weight->n);
  }
  return 0;
}

Status check_ids(const StepView& step, const LaunchRecord& launch) {
  const int64_t entries = table_entries(launch);
  if (entries == 0) return {};
  Status status;
  for_each_operand(launch, [&](const Operand& operand) {
    const bool per_row = status.ok() && operand.reads() && operand.arg->kind == ArgKind::kTensor &&
                         operand.view.dtype == DType::kI32 && !step.field_at(operand.address);
    if (per_row && owners_of(step, launch, operand)) status = check_ids(step, launch, operand, entries);
  });
  return status;
}

}  // namespace lockstep
