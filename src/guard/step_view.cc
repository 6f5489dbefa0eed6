#include "guard/step_view.h"

namespace lockstep {

std::optional<StepView::FieldPlace> StepView::field_at(const void* address) const {
  const auto at = reinterpret_cast<uintptr_t>(address);
  if (image == 0 || at < image || at >= image + plan.image().size()) return std::nullopt;
  const auto offset = static_cast<int64_t>(at - image);
  const ImageLayout& layout = plan.layout();
  for (const FieldInfo& info : kFields) {
    for (int32_t g = 0; g < layout.num_groups(); ++g) {
      const ImageLayout::Place& place = layout.place(info.id, GroupId(g));
      if (place.offset == offset && place.count > 0) return FieldPlace{info.id, GroupId(g)};
    }
  }
  return std::nullopt;
}

namespace {

// Whether the launch counts its live rows by the plan's count of logits rows.
bool counts_logits_rows(const StepView& step, const LaunchRecord& launch) {
  for (const OpArg& arg : launch.site.spec->args) {
    if (arg.kind != ArgKind::kScalar || arg.name != "num_rows") continue;
    const std::optional<Operand> operand = operand_of(launch, arg);
    const auto field = operand ? step.field_at(operand->address) : std::nullopt;
    return field && field->id == FieldId::num_logits_rows;
  }
  return false;
}

}  // namespace

std::optional<std::span<const OwnedEntry>> owners_of(const StepView& step, const LaunchRecord& launch,
                                                     const Operand& operand) {
  const OpArg& arg = *operand.arg;
  if (arg.kind != ArgKind::kTensor || arg.dims.empty() || operand.view.shape.rank == 0) return std::nullopt;
  if (arg.rows != RowsTouched::kAll && arg.rows != RowsTouched::kLive) return std::nullopt;
  switch (arg.dims.front()) {
    case 'T': {
      const auto rows = counts_logits_rows(step, launch) ? step.owners.logits_rows() : step.owners.rows();
      if (operand.view.dim(0) > static_cast<int64_t>(rows.size())) return std::nullopt;
      return rows;
    }
    case 'S': return step.owners.sequences();
    case 'R': return step.owners.logits_rows();
    default: return std::nullopt;
  }
}

GroupId group_of(const StepView& step, const LaunchRecord& launch) {
  for (const OpArg& arg : launch.site.spec->args) {
    const std::optional<Operand> operand = operand_of(launch, arg);
    const auto field = operand ? step.field_at(operand->address) : std::nullopt;
    if (field && info_of(field->id).scope != Scope::kPlan) return field->group;
  }
  return GroupId(0);
}

}  // namespace lockstep
