// Which rows draw a token, and how.
#include <limits>

#include "plan/validate.h"

namespace lockstep {
namespace {

// One line of the table of sampling facts: what a value may be.
struct Range {
  Field<float> field;
  float least;  // or more than it, if `open`
  float most;
  bool open;
  std::string_view says;
};

constexpr float kAny = std::numeric_limits<float>::max();
constexpr Range kRanges[] = {
    {field::temperature, 0.0f, kAny, false, "a finite number of at least 0"},
    {field::top_p, 0.0f, 1.0f, true, "more than 0 and at most 1"},
    {field::min_p, 0.0f, 1.0f, false, "0..1"},
    {field::repetition_penalty, 0.0f, kAny, true, "a finite number of more than 0"},
    {field::presence_penalty, -kAny, kAny, false, "a finite number"},
    {field::frequency_penalty, -kAny, kAny, false, "a finite number"},
};

// Written so that NaN lies in no range.
bool contains(const Range& range, float value) {
  return (range.open ? value > range.least : value >= range.least) && value <= range.most;
}

struct IntegerRange {
  Field<int32_t> field;
  int32_t least;
  int32_t most;
};

}  // namespace

// The slots of token counts belong to one sequence each.
bool PlanValidator::check_penalties(const StepPlan& plan) {
  const auto slots = plan.get(field::penalty_slots);
  const int32_t live = plan.scalar(field::num_seqs).get();
  penalties_.clear();
  for (int32_t s = 0; s < live; ++s) {
    const PenaltySlot slot = slots[static_cast<size_t>(s)];
    const Where where{"GEO", FieldId::penalty_slots, s, GroupId(0)};
    if (const int32_t early = early_half(plan, s); early >= 0) {
      const PenaltySlot shared = slots[static_cast<size_t>(early)];
      if (slot == shared) continue;
      return refuse(where, FixedText(shared, ", the penalty slot of its early chunk, sequence ", early),
                    FixedText(slot));
    }
    if (slot == PenaltySlot(-1)) continue;
    if (slot < PenaltySlot(0) || slot.get() >= limits_.penalty_slots)
      return refuse(where, FixedText("-1, or one of ", Counted{limits_.penalty_slots, "penalty slot"}),
                    FixedText(slot));
    const int32_t other = penalties_.mark(slot.get(), s);
    if (other >= 0) {
      return refuse(where, FixedText("a penalty slot of its own"),
                    FixedText(slot, ", the penalty slot of sequence ", other));
    }
  }
  return true;
}

// Logits rows are the last rows of distinct live sequences, ascending, so one walk over the sequences finds
// the owner of each.
bool PlanValidator::check_logits_rows(const StepPlan& plan) {
  const auto starts = plan.get(field::query_start_loc);
  const auto logits_rows = plan.get(field::logits_rows);
  const auto sequences = static_cast<size_t>(plan.scalar(field::num_seqs).get());
  const int32_t count = plan.scalar(field::num_logits_rows).get();
  size_t s = 0;
  for (int32_t r = 0; r < count; ++r, ++s) {
    const auto at = static_cast<size_t>(r);
    const int32_t row = logits_rows[at].get();
    const auto ends_before = [&] { return starts[s + 1] == starts[s] || starts[s + 1].get() <= row; };
    while (s < sequences && ends_before()) ++s;
    if (s == sequences || starts[s + 1].get() != row + 1) {
      return refuse(
          {"GEO", FieldId::logits_rows, r},
          FixedText("the last row of a live sequence", r > 0 ? ", past those of the entries before" : ""),
          FixedText(row));
    }
    const RowIndex gathered = plan.get(field::cp_logits_rows)[at];
    if (gathered != RowIndex(-1)) {
      return refuse({"GEO", FieldId::cp_logits_rows, r}, FixedText("-1, as every rank computes the row"),
                    FixedText(gathered));
    }
    if (!check_logits_row(plan, r, static_cast<int32_t>(s))) return false;
  }
  return true;
}

// What holds of a logits row whoever computes it: s is its sequence.
bool PlanValidator::check_logits_row(const StepPlan& plan, int32_t r, int32_t s) {
  const auto at = static_cast<size_t>(r);
  const RowIndex row = plan.get(field::logits_rows)[at];
  const TokenCount prompt = plan.get(field::prompt_lens)[static_cast<size_t>(s)];
  const int32_t length = end_of(plan, s);
  if (length < prompt.get()) {
    return refuse({"GEO", FieldId::logits_rows, r}, FixedText("a row of a sequence whose prompt is complete"),
                  FixedText(row, ", after ", length, " of the prompt's ", Counted{prompt.get(), "token"}));
  }
  const Position position = plan.get(field::sample_positions)[at];
  if (position.get() != length) {
    return refuse({"GEO", FieldId::sample_positions, r},
                  FixedText(length, ", one past the position of row ", row), FixedText(position));
  }
  const PenaltySlot slot = plan.get(field::sample_penalty_slots)[at];
  const PenaltySlot own = plan.get(field::penalty_slots)[static_cast<size_t>(s)];
  return slot == own || refuse({"GEO", FieldId::sample_penalty_slots, r},
                               FixedText(own, ", the penalty slot of sequence ", s), FixedText(slot));
}

bool PlanValidator::check_sampling(const StepPlan& plan) {
  const int32_t count = plan.scalar(field::num_logits_rows).get();
  for (const Range& range : kRanges) {
    const auto values = plan.get(range.field);
    for (int32_t r = 0; r < count; ++r) {
      const float value = values[static_cast<size_t>(r)];
      if (!contains(range, value))
        return refuse({"GEO", range.field.id, r}, FixedText(range.says), FixedText(value));
    }
  }
  for (const IntegerRange& range : {IntegerRange{field::top_k, 0, std::numeric_limits<int32_t>::max()},
                                    IntegerRange{field::mask_slots, -1, limits_.mask_slots - 1},
                                    IntegerRange{field::logprobs, -1, kMaxTopLogprobs}}) {
    const auto values = plan.get(range.field);
    for (int32_t r = 0; r < count; ++r) {
      const int32_t value = values[static_cast<size_t>(r)];
      if (value < range.least || value > range.most)
        return refuse({"GEO", range.field.id, r}, FixedText(range.least, "..", range.most), FixedText(value));
    }
  }
  const auto slots = plan.get(field::sample_penalty_slots);
  for (int32_t r = 0; r < count; ++r) {
    const auto at = static_cast<size_t>(r);
    const bool off = plan.get(field::repetition_penalty)[at] == 1.0f &&
                     plan.get(field::presence_penalty)[at] == 0.0f &&
                     plan.get(field::frequency_penalty)[at] == 0.0f;
    if (!off && slots[at] == PenaltySlot(-1)) {
      return refuse({"GEO", FieldId::sample_penalty_slots, r},
                    FixedText("a penalty slot, as penalties are on"), FixedText(slots[at]));
    }
  }
  return true;
}

}  // namespace lockstep
