// StepView: what the guard knows of the step that runs: its plan, whose rows are whose, and where the plan
// lies on the device.
#pragma once

#include <optional>
#include <span>

#include "device/host_view.h"
#include "device/memory_map.h"
#include "guard/owners.h"
#include "kernels/common/operands.h"
#include "plan/step_plan.h"

namespace lockstep {

// Borrows everything. Valid for one step.
struct StepView {
  const StepPlan& plan;
  const StepLimits& limits;
  const MemoryMap& map;
  uintptr_t image = 0;  // address of the plan on the device; 0: it is not there
  const Owners& owners;
  HostView memory{};  // that the launches work on

  struct FieldPlace {
    FieldId id;
    GroupId group;
  };
  // The plan field that begins at this address of the device image.
  std::optional<FieldPlace> field_at(const void* address) const;
};

// The owners of an operand's outermost dimension; nothing where it is not indexed by rows, sequences or
// logits rows. Rows of a launch whose count of live rows is the plan's count of logits rows are logits rows.
// More rows than the bucket has are those of several ranks, of which this plan says nothing.
std::optional<std::span<const OwnedEntry>> owners_of(const StepView& step, const LaunchRecord& launch,
                                                     const Operand& operand);

// The cache group that a launch works on: that of the first per-group field it reads; 0 without one.
GroupId group_of(const StepView& step, const LaunchRecord& launch);

// Calls visit(begin, bytes) for each run of adjacent bytes of entry `row` of the outermost dimension.
template <typename Visit>
void for_each_run(const TensorView& view, int64_t row, Visit&& visit) {
  const auto size = static_cast<int64_t>(size_of(view.dtype));
  int64_t dense = 1, inner = view.shape.rank;  // dimensions from `inner` on lie without gaps
  while (inner > 1 && (view.dim(inner - 1) == 1 || view.stride(inner - 1) == dense)) {
    dense *= view.dim(inner - 1);
    --inner;
  }
  int64_t runs = 1;
  for (int64_t i = 1; i < inner; ++i) runs *= view.dim(i);
  const auto base = reinterpret_cast<uintptr_t>(view.data);
  for (int64_t run = 0; run < runs; ++run) {
    int64_t offset = row * view.stride(0), rest = run;
    for (int64_t i = inner - 1; i >= 1; --i) {
      offset += rest % view.dim(i) * view.stride(i);
      rest /= view.dim(i);
    }
    visit(base + static_cast<uintptr_t>(offset * size), dense * size);
  }
}

}  // namespace lockstep
