// P5: recurrent state slots.
#include <algorithm>

#include "plan/validate.h"

namespace lockstep {

// A sequence reads a slot that no other sequence of the step reads, and says whether it holds its state.
bool PlanValidator::check_states(const StepPlan& plan) {
  const auto reads = plan.get(field::state_read_slot);
  const auto computed = plan.get(field::computed_lens);
  const auto initial = plan.get(field::has_initial_state);
  const int32_t live = plan.scalar(field::num_seqs).get();
  read_states_.clear();
  for (int32_t s = 0; s < live; ++s) {
    const auto at = static_cast<size_t>(s);
    const StateSlot slot = reads[at];
    const Where where{"P5", FieldId::state_read_slot, s, GroupId(0)};
    if (state_slots_ == 0 && slot != StateSlot(0))
      return refuse(where, FixedText("0, as no layer is recurrent"), FixedText(slot));
    if (state_slots_ > 0) {
      if (slot <= StateSlot(0) || slot.get() >= state_slots_)
        return refuse(where, FixedText("a state slot of 1..", state_slots_ - 1), FixedText(slot));
      const int32_t early = early_half(plan, s);
      if (early >= 0 && slot != reads[static_cast<size_t>(early)]) {
        return refuse(where,
                      FixedText(reads[static_cast<size_t>(early)],
                                ", the state slot of its early chunk, sequence ", early),
                      FixedText(slot));
      }
      const int32_t other = early >= 0 ? -1 : read_states_.mark(slot.get(), s);
      if (other >= 0) {
        return refuse(where, FixedText("a state slot of its own"),
                      FixedText(slot, ", the state slot of sequence ", other));
      }
    }
    const int32_t expected = computed[at] > TokenCount(0) ? 1 : 0;
    if (initial[at] != expected) {
      return refuse({"P5", FieldId::has_initial_state, s},
                    FixedText(expected, " after ", Counted{computed[at].get(), "computed token"}),
                    FixedText(initial[at]));
    }
  }
  return true;
}

// What a state slot holds when the sequences read it: copies come first, and none reads what another writes.
int32_t PlanValidator::state_age(const StepPlan& plan, GroupId group, StateSlot slot) const {
  const auto g = static_cast<size_t>(group.get());
  const int32_t copy = copied_[g].seen_by(slot.get());
  const PageId held =
      copy < 0 ? PageId(slot.get()) : plan.get(field::copies, group)[static_cast<size_t>(copy)].source;
  return state_ages_[g][static_cast<size_t>(held.get())];
}

// A state is a sum over all tokens before it. So the slot that a sequence reads holds the state after exactly
// its computed tokens, whoever put it there: the row before, a verified draft, a copied checkpoint.
bool PlanValidator::check_state_ages(const StepPlan& plan, GroupId group) {
  const auto reads = plan.get(field::state_read_slot);
  const auto spans = plan.get(field::cp_spans);
  for (int32_t s = 0; s < whole_sequences(plan); ++s) {
    const auto at = static_cast<size_t>(s);
    const int32_t computed = spans[at].start.get();  // of a late chunk too: its own are still to come
    if (computed == 0) continue;
    const int32_t age = state_age(plan, group, reads[at]);
    if (age == computed || age == kUnknownAge) continue;
    return refuse({"P5", FieldId::state_read_slot, s, GroupId(0)},
                  FixedText("a slot that holds the state after ", Counted{computed, "token"}),
                  age == 0 ? FixedText(reads[at], ", which holds no state")
                           : FixedText(reads[at], ", which holds the state after ", Counted{age, "token"}));
  }
  return true;
}

void PlanValidator::age_states(const StepPlan& plan, GroupId group) {
  std::vector<int32_t>& ages = state_ages_[static_cast<size_t>(group.get())];
  const auto copies = plan.get(field::copies, group);
  for (int32_t c = 0; c < plan.scalar(field::num_copies, group); ++c) {
    const PageCopy& copy = copies[static_cast<size_t>(c)];
    ages[static_cast<size_t>(copy.target.get())] = ages[static_cast<size_t>(copy.source.get())];
  }
  if (cut(plan)) {  // whoever runs the last chunk, every rank has its state afterwards
    for (int32_t s = 0; s < whole_sequences(plan); ++s) {
      if (plan.get(field::cp_spans)[static_cast<size_t>(s)].length == RowCount(0)) continue;
      ages[static_cast<size_t>(plan.get(field::state_read_slot)[static_cast<size_t>(s)].get())] =
          end_of(plan, s);
    }
    return;
  }
  const auto writes = plan.get(field::state_write_slots);
  const auto positions = plan.get(field::positions);
  for (size_t row = 0; row < static_cast<size_t>(plan.scalar(field::num_rows).get()); ++row) {
    if (writes[row].is_skip()) continue;
    ages[static_cast<size_t>(writes[row].slot().get())] = positions[row].get() + 1;
  }
}

// A row writes its sequence's own slot, or one that nobody else reads or writes; the last row always writes.
bool PlanValidator::check_state_writes(const StepPlan& plan) {
  const auto starts = plan.get(field::query_start_loc);
  const auto writes = plan.get(field::state_write_slots);
  const int32_t live = plan.scalar(field::num_seqs).get();
  written_states_.clear();
  for (int32_t s = 0; s < live; ++s) {
    const int32_t end = starts[static_cast<size_t>(s) + 1].get();
    for (int32_t row = starts[static_cast<size_t>(s)].get(); row < end; ++row) {
      const StateSlotOrSkip slot = writes[static_cast<size_t>(row)];
      const Where where{"P5", FieldId::state_write_slots, row, GroupId(0)};
      if (slot == StateSlotOrSkip::skip()) {
        if (state_slots_ == 0 || row + 1 < end) continue;
        return refuse(where, FixedText("a state slot, for this is the last row of sequence ", s),
                      FixedText(slot));
      }
      if (state_slots_ == 0)
        return refuse(where, FixedText("SKIP, as no layer is recurrent"), FixedText(slot));
      if (slot.slot() <= StateSlot(0) || slot.slot().get() >= state_slots_)
        return refuse(where, FixedText("SKIP or a state slot of 1..", state_slots_ - 1), FixedText(slot));
      const int32_t reader = read_states_.seen_by(slot.slot().get());
      if (reader >= 0 && reader != s) {
        return refuse(where, FixedText("a state slot that no sequence but ", s, " reads"),
                      FixedText(slot, ", the state slot of sequence ", reader));
      }
      const int32_t writer = written_states_.mark(slot.slot().get(), row);
      if (writer >= 0) {
        return refuse(where, FixedText("a state slot that no other row writes"),
                      FixedText(slot, ", which row ", writer, " writes"));
      }
    }
  }
  return true;
}

void PlanValidator::forget_states() {
  for (std::vector<int32_t>& ages : state_ages_) std::fill(ages.begin(), ages.end(), kUnknownAge);
}

}  // namespace lockstep
