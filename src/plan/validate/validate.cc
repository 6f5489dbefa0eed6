#include "plan/validate.h"

#include <algorithm>

#include "base/check.h"

namespace lockstep {

std::string describe(const Violation& violation, Epoch epoch) {
  const FieldInfo& info = info_of(violation.field);
  const std::string place = info.form == Form::kScalar ? "" : concat("[", violation.index, "]");
  const std::string group = info.scope == Scope::kPlan ? "" : concat(" of group ", violation.group);
  return concat("plan ", epoch, ": ", violation.check, " ", info.name, place, group, " is ", violation.found,
                "; expected ", violation.expected);
}

Fault fault_of(const Violation& violation, Epoch epoch) {
  const FieldInfo& info = info_of(violation.field);
  return {.check = std::string(violation.check),
          .moment = Moment::kPlan,
          .consumer = "",
          .field = std::string(info.name),
          .row = info.form == Form::kScalar ? -1 : violation.index,
          .rank = 0,
          .step = epoch.get(),
          .expected = std::string(violation.expected.view()),
          .found = std::string(violation.found.view())};
}

PlanValidator::PlanValidator(const StepLimits& limits)
    : limits_(limits),
      rows_per_pad_(std::min(limits.max_rows, limits.max_seq_len)),
      penalties_(limits.penalty_slots) {
  const Status checked = check_limits(limits_);
  LS_CHECK(checked.ok(), checked.message());
  for (int32_t g = 0; g < limits_.num_groups; ++g) {
    const CacheGroup& group = limits_.group(GroupId(g));
    const bool is_paged = group.kind == GroupKind::kPaged;
    mirrors_.push_back(is_paged ? TableMirror(group, limits_.max_edits) : TableMirror());
    edited_.emplace_back(is_paged ? group.table_rows : 0);
    live_rows_.emplace_back(is_paged ? group.table_rows : 0);
    copied_.emplace_back(group.num_pages);
    state_ages_.emplace_back(is_paged ? 0 : static_cast<size_t>(group.num_pages));
    if (is_paged)
      rows_per_pad_ = std::min(rows_per_pad_, group.page_tokens);
    else
      state_slots_ = state_slots_ == 0 ? group.num_pages : std::min(state_slots_, group.num_pages);
  }
  read_states_ = Stamps(state_slots_);
  written_states_ = Stamps(state_slots_);
  passed_.resize(static_cast<size_t>(limits_.cp_ranks));
}

const Violation* PlanValidator::check(const StepPlan& plan) {
  if (check_plan(plan)) {
    accept(plan);
    return nullptr;
  }
  for (TableMirror& mirror : mirrors_) mirror.undo();
  return &violation_;
}

Status PlanValidator::validate(const StepPlan& plan) {
  const Violation* violation = check(plan);
  if (violation == nullptr) return {};
  // A plan whose layout is not to be trusted has no epoch that could be read.
  const auto epoch = plan.get(field::epoch);
  const bool readable = plan.image().size() >= static_cast<size_t>(plan.layout().bytes()) && !epoch.empty();
  const Epoch step = readable ? epoch.front() : Epoch(0);
  return {Code::kInternal, describe(*violation, step),
          std::make_shared<const Fault>(fault_of(*violation, step))};
}

bool PlanValidator::refuse(const Where& where, const FixedText& expected, const FixedText& found) {
  if (!rule_is_on(where.check)) return true;
  violation_ = {.check = where.check,
                .field = where.field,
                .index = where.index,
                .group = where.group,
                .expected = expected,
                .found = found};
  return false;
}

bool PlanValidator::check_plan(const StepPlan& plan) {
  if (!check_shape(plan) || !check_epoch(plan) || !check_cut(plan)) return false;
  if (!check_starts(plan) || !check_pad_rows(plan) || !check_tokens(plan)) return false;
  if (!check_lengths(plan) || !check_positions(plan) || !check_prompts(plan) || !check_longest(plan))
    return false;
  if (!check_spans(plan) || !check_segments(plan) || !check_geometry(plan)) return false;
  for (int32_t g = 0; g < limits_.num_groups; ++g) {
    const GroupId group(g);
    if (paged(group) &&
        (!check_edits(plan, group) || !check_tables(plan, group) || !check_owners(plan, group) ||
         !check_slots(plan, group) || !check_gathered_slots(plan, group)))
      return false;
    if (!check_copies(plan, group)) return false;
  }
  if (!check_states(plan)) return false;
  for (int32_t g = 0; g < limits_.num_groups; ++g) {
    if (!paged(GroupId(g)) && !check_state_ages(plan, GroupId(g))) return false;
  }
  return (cut(plan) ? check_handed_on_states(plan) : check_state_writes(plan)) && check_penalties(plan) &&
         (cut(plan) ? check_shared_logits_rows(plan) : check_logits_rows(plan)) && check_sampling(plan) &&
         check_pads(plan);
}

void PlanValidator::accept(const StepPlan& plan) {
  for (int32_t g = 0; g < limits_.num_groups; ++g) {
    if (!paged(GroupId(g))) {
      age_states(plan, GroupId(g));
      continue;
    }
    mirrors_[static_cast<size_t>(g)].keep();
    claim_pages(plan, GroupId(g));
  }
  last_epoch_ = plan.scalar(field::epoch);
  last_logits_rows_ = plan.scalar(field::num_logits_rows);
}

}  // namespace lockstep
