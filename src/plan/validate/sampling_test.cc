// Logits rows, sampling facts and P11: each rule broken in many random plans.
#include <cmath>
#include <limits>

#include "plan/validate/mutations.h"

namespace lockstep {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The sequence whose last row a logits row is.
int32_t sequence_of(Draft& draft, int32_t r) { return draft.owner(draft.at(field::logits_rows, r).get()); }

Expected bend_logits_row(Draft& draft, int32_t r, int32_t row) {
  draft.at(field::logits_rows, r) = RowIndex(row);
  return broken("GEO", FieldId::logits_rows, r,
                r == 0 ? "the last row of a live sequence"
                       : "the last row of a live sequence, past those of the entries before",
                concat(row));
}

constexpr Mutation kLogitsRows[] = {
    {"a logits row is a row before a sequence's last",
     [](Draft& draft) -> Expected {
       const int32_t r = draft.any(draft.logits_rows());
       if (r < 0 || draft.rows_of(sequence_of(draft, r)) < 2) return {};
       return bend_logits_row(draft, r, draft.at(field::logits_rows, r).get() - 1);
     }},
    {"a logits row is a pad row",
     [](Draft& draft) -> Expected {
       const int32_t r = draft.any(draft.logits_rows());
       const int32_t row = draft.any_pad_row();
       if (r < 0 || row < 0) return {};
       return bend_logits_row(draft, r, row);
     }},
    {"a logits row stands twice",
     [](Draft& draft) -> Expected {
       const int32_t r = draft.any(draft.logits_rows());
       if (r < 1) return {};
       return bend_logits_row(draft, r, draft.at(field::logits_rows, r - 1).get());
     }},
    {"logits rows do not ascend",
     [](Draft& draft) -> Expected {
       const int32_t r = draft.any(draft.logits_rows());
       if (r < 2) return {};
       return bend_logits_row(draft, r, draft.at(field::logits_rows, r - 2).get());
     }},
    {"a live logits row is none",
     [](Draft& draft) -> Expected {
       const int32_t r = draft.any(draft.logits_rows());
       if (r < 0) return {};
       return bend_logits_row(draft, r, -1);
     }},
    {"a token is drawn in the middle of a prompt",
     [](Draft& draft) -> Expected {
       const int32_t r = draft.any(draft.logits_rows());
       if (r < 0 || draft.length(sequence_of(draft, r)) == draft.limits.max_seq_len) return {};
       const int32_t s = sequence_of(draft, r);
       draft.at(field::prompt_lens, s) = TokenCount(draft.length(s) + 1);
       return broken("GEO", FieldId::logits_rows, r, "a row of a sequence whose prompt is complete",
                     text(draft.at(field::logits_rows, r), ", after ", draft.length(s), " of the prompt's ",
                          Counted{draft.length(s) + 1, "token"}));
     }},
    {"a drawn token has another position",
     [](Draft& draft) -> Expected {
       const int32_t r = draft.any(draft.logits_rows());
       if (r < 0) return {};
       const int32_t right = draft.length(sequence_of(draft, r));
       draft.at(field::sample_positions, r) = Position(right - 1);
       return broken("GEO", FieldId::sample_positions, r,
                     concat(right, ", one past the position of row ", draft.at(field::logits_rows, r)),
                     concat(right - 1));
     }},
    {"a logits row counts tokens of another sequence",
     [](Draft& draft) -> Expected {
       const int32_t r = draft.any(draft.logits_rows());
       if (r < 0) return {};
       const int32_t s = sequence_of(draft, r);
       const PenaltySlot slot = draft.at(field::penalty_slots, s);
       draft.at(field::sample_penalty_slots, r) = PenaltySlot(slot.get() + 1);
       return broken("GEO", FieldId::sample_penalty_slots, r,
                     concat(slot, ", the penalty slot of sequence ", s), concat(slot.get() + 1));
     }},
};

Expected bend_penalty(Draft& draft, int32_t slot) {
  const int32_t s = draft.any(draft.seqs());
  if (s < 0) return {};
  draft.at(field::penalty_slots, s) = PenaltySlot(slot);
  return broken("GEO", FieldId::penalty_slots, s,
                text("-1, or one of ", Counted{draft.limits.penalty_slots, "penalty slot"}), concat(slot));
}

constexpr Mutation kPenalties[] = {
    {"a penalty slot is past the slots",
     [](Draft& draft) { return bend_penalty(draft, draft.limits.penalty_slots); }},
    {"a penalty slot is negative, but not -1", [](Draft& draft) { return bend_penalty(draft, -2); }},
    {"two sequences have one penalty slot",
     [](Draft& draft) -> Expected {
       const int32_t s = draft.any(draft.seqs());
       if (s < 1) return {};
       const int32_t other = draft.any(s);
       const PenaltySlot slot = draft.at(field::penalty_slots, other);
       if (slot == PenaltySlot(-1)) return {};
       draft.at(field::penalty_slots, s) = slot;
       return broken("GEO", FieldId::penalty_slots, s, "a penalty slot of its own",
                     concat(slot, ", the penalty slot of sequence ", other));
     }},
    {"penalties are on and nothing counts tokens",
     [](Draft& draft) -> Expected {
       const int32_t r = draft.any(draft.logits_rows());
       if (r < 0 || draft.at(field::sample_penalty_slots, r) != PenaltySlot(-1)) return {};
       const Field<float> fields[] = {field::repetition_penalty, field::presence_penalty,
                                      field::frequency_penalty};
       draft.at(fields[draft.any(3)], r) = 1.5f;
       return broken("GEO", FieldId::sample_penalty_slots, r, "a penalty slot, as penalties are on", "-1");
     }},
};

// Gives a logits row a sampling fact that is out of range.
template <typename T>
Expected bend_fact(Draft& draft, Field<T> f, std::initializer_list<T> wrong, std::string_view expected) {
  const int32_t r = draft.any(draft.logits_rows());
  if (r < 0) return {};
  const T value = wrong.begin()[draft.any(static_cast<int32_t>(wrong.size()))];
  draft.at(f, r) = value;
  return broken("GEO", f.id, r, expected, FixedText(value).view());
}

constexpr Mutation kFacts[] = {
    {"temperature",
     [](Draft& draft) {
       return bend_fact(draft, field::temperature, {-0.1f, kInfinity, -kInfinity, NAN},
                        "a finite number of at least 0");
     }},
    {"top_p",
     [](Draft& draft) {
       return bend_fact(draft, field::top_p, {0.0f, -1.0f, 1.01f, NAN}, "more than 0 and at most 1");
     }},
    {"min_p",
     [](Draft& draft) {
       return bend_fact(draft, field::min_p, {-0.01f, 1.01f, NAN}, "0..1");
     }},
    {"repetition_penalty",
     [](Draft& draft) {
       return bend_fact(draft, field::repetition_penalty, {0.0f, -2.0f, kInfinity, NAN},
                        "a finite number of more than 0");
     }},
    {"presence_penalty",
     [](Draft& draft) {
       return bend_fact(draft, field::presence_penalty, {kInfinity, -kInfinity, NAN}, "a finite number");
     }},
    {"frequency_penalty",
     [](Draft& draft) {
       return bend_fact(draft, field::frequency_penalty, {kInfinity, -kInfinity, NAN}, "a finite number");
     }},
    {"top_k", [](Draft& draft) { return bend_fact(draft, field::top_k, {-1}, "0..2147483647"); }},
    {"logprobs",
     [](Draft& draft) {
       return bend_fact(draft, field::logprobs, {-2, 21}, "-1..20");
     }},
    {"mask_slots",
     [](Draft& draft) {
       return bend_fact(draft, field::mask_slots, {-2, draft.limits.mask_slots},
                        concat("-1..", draft.limits.mask_slots - 1));
     }},
};

TEST(PlanValidator, NamesLogitsRowsThatEndNoSequence) { try_mutations(kLogitsRows); }
TEST(PlanValidator, NamesPenaltySlotsThatASequenceDoesNotOwn) { try_mutations(kPenalties); }
TEST(PlanValidator, NamesSamplingFactsOutOfRange) { try_mutations(kFacts); }

// The number of live entries of a field that has pad entries or a tail.
int32_t live_entries(Draft& draft, const FieldInfo& info, GroupId group) {
  switch (info.form) {
    case Form::kPerRow: return draft.rows();
    case Form::kPerSequence: return draft.seqs();
    case Form::kPerLogitsRow: return draft.logits_rows();
    case Form::kEdits: return draft.at(field::num_table_edits, 0, group);
    case Form::kCopies: return draft.at(field::num_copies, 0, group);
    default: return draft.plan.layout().place(info.id, group).count;
  }
}

// Changes the lowest byte of one pad entry; what it reads as then.
std::string bend_entry(Draft& draft, const FieldInfo& info, const ImageLayout::Place& place, int32_t entry) {
  const auto bytes = std::span(const_cast<std::byte*>(draft.plan.image().data()), draft.plan.image().size());
  std::byte* const element = &bytes[static_cast<size_t>(place.offset + entry * info.element_bytes)];
  *element ^= std::byte{0x15};
  const auto read = [element]<typename T>(T value) {
    std::memcpy(&value, element, sizeof(T));
    return std::string(FixedText(value).view());
  };
  switch (info.element) {
    case Element::kF32: return read(0.0f);
    case Element::kI64: return read(int64_t{0});
    case Element::kU64: return read(uint64_t{0});
    default: return read(int32_t{0});
  }
}

// Every field of the table that has pad entries or a tail, and no other: a new line of the table is tested
// the day it is added.
TEST(PlanValidator, NamesEveryPadEntryThatIsNotAsTheFieldTableSays) {
  std::array<int, kNumFields> applied{};
  std::mt19937_64 choices(7);
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(concat("seed ", seed));
    Simulation simulation(seed);
    PlanValidator validator(simulation.limits());
    StepPlan plan;
    for (int i = 0; i < 20; ++i) {
      ASSERT_TRUE(simulation.next(plan).ok());
      for (const FieldInfo& info : kFields) {
        Draft draft{.plan = plan, .limits = simulation.limits(), .random = choices};
        const GroupId group = info.scope == Scope::kPlan ? GroupId(0) : draft.any_group(GroupKind::kPaged);
        if (group == GroupId(-1) || info.pad == Pad::kSequence) continue;
        const ImageLayout::Place& place = plan.layout().place(info.id, group);
        const int32_t live = live_entries(draft, info, group);
        if (live >= place.count) continue;
        const int32_t entry = draft.pick(live, place.count - 1);
        const std::string found = bend_entry(draft, info, place, entry);
        const std::string expected = info.pad == Pad::kNone ? concat("zero past the ", live, " live entries")
                                     : info.pad == Pad::kSkip ? "SKIP in a pad entry"
                                                              : concat(info.pad_value, " in a pad entry");
        ++applied[static_cast<size_t>(info.id)];
        expect_violation(
            validator.check(draft.plan),
            *broken("P11", info.id, entry, expected, info.pad == Pad::kNone ? "not zero" : found, group),
            plan.scalar(field::epoch));
        if (HasFailure()) return;
      }
      ASSERT_TRUE(validator.validate(plan).ok());
    }
  }
  for (const FieldInfo& info : kFields) {
    const bool has_pads = info.pad == Pad::kValue || info.pad == Pad::kSkip || info.form == Form::kEdits ||
                          info.form == Form::kCopies;
    EXPECT_EQ(applied[static_cast<size_t>(info.id)] > 15, has_pads) << info.name;
  }
}

}  // namespace
}  // namespace lockstep
