// P5: each rule broken in many random plans.
#include "plan/validate/mutations.h"

namespace lockstep {
namespace {

int32_t state_slots(const Draft& draft) {
  int32_t slots = 0;
  for (int32_t g = 0; g < draft.limits.num_groups; ++g) {
    if (draft.limits.group(GroupId(g)).kind == GroupKind::kState)
      slots = draft.limits.group(GroupId(g)).num_pages;
  }
  return slots;
}

Expected read_slot(Draft& draft, int32_t slot) {
  const int32_t s = draft.any(draft.seqs());
  if (s < 0 || !draft.recurrent()) return {};
  draft.at(field::state_read_slot, s) = StateSlot(slot);
  return broken("P5", FieldId::state_read_slot, s, concat("a state slot of 1..", state_slots(draft) - 1),
                concat(slot));
}

// Gives any live row a write slot that is out of range.
Expected write_slot(Draft& draft, int32_t slot) {
  const int32_t row = draft.any_live_row();
  if (row < 0 || !draft.recurrent()) return {};
  draft.at(field::state_write_slots, row) = StateSlotOrSkip(StateSlot(slot));
  return broken("P5", FieldId::state_write_slots, row,
                concat("SKIP or a state slot of 1..", state_slots(draft) - 1), concat(slot));
}

constexpr Mutation kReads[] = {
    {"a sequence reads the pad state", [](Draft& draft) { return read_slot(draft, 0); }},
    {"a sequence reads a negative state", [](Draft& draft) { return read_slot(draft, -1); }},
    {"a sequence reads past the states", [](Draft& draft) { return read_slot(draft, state_slots(draft)); }},
    {"two sequences read one state",
     [](Draft& draft) -> Expected {
       const int32_t s = draft.any(draft.seqs());
       if (s < 1 || !draft.recurrent()) return {};
       const int32_t other = draft.any(s);
       const StateSlot slot = draft.at(field::state_read_slot, other);
       draft.at(field::state_read_slot, s) = slot;
       return broken("P5", FieldId::state_read_slot, s, "a state slot of its own",
                     concat(slot, ", the state slot of sequence ", other));
     }},
    {"a sequence reads a state though no layer is recurrent",
     [](Draft& draft) -> Expected {
       const int32_t s = draft.any(draft.seqs());
       if (s < 0 || draft.recurrent()) return {};
       draft.at(field::state_read_slot, s) = StateSlot(1);
       return broken("P5", FieldId::state_read_slot, s, "0, as no layer is recurrent", "1");
     }},
    {"a new sequence takes over what is in its slot",
     [](Draft& draft) -> Expected {
       const int32_t s = draft.any(draft.seqs());
       if (s < 0 || draft.computed(s) > 0) return {};
       draft.at(field::has_initial_state, s) = 1;
       return broken("P5", FieldId::has_initial_state, s, "0 after 0 computed tokens", "1");
     }},
    {"a sequence forgets its state",
     [](Draft& draft) -> Expected {
       const int32_t s = draft.any(draft.seqs());
       if (s < 0 || draft.computed(s) == 0) return {};
       draft.at(field::has_initial_state, s) = 0;
       return broken("P5", FieldId::has_initial_state, s,
                     text("1 after ", Counted{draft.computed(s), "computed token"}), "0");
     }},
    {"the flag is neither 0 nor 1",
     [](Draft& draft) -> Expected {
       const int32_t s = draft.any(draft.seqs());
       if (s < 0 || draft.computed(s) == 0) return {};
       draft.at(field::has_initial_state, s) = 2;
       return broken("P5", FieldId::has_initial_state, s,
                     text("1 after ", Counted{draft.computed(s), "computed token"}), "2");
     }},
};

constexpr Mutation kWrites[] = {
    {"the state after the last row goes nowhere",
     [](Draft& draft) -> Expected {
       const int32_t row = draft.any_live_row();
       if (row < 0 || !draft.recurrent()) return {};
       const int32_t s = draft.owner(row);
       const int32_t last = draft.start(s + 1) - 1;
       draft.at(field::state_write_slots, last) = StateSlotOrSkip::skip();
       return broken("P5", FieldId::state_write_slots, last,
                     concat("a state slot, for this is the last row of sequence ", s), "SKIP");
     }},
    {"a row writes the pad state", [](Draft& draft) { return write_slot(draft, 0); }},
    {"a row writes a slot that is neither SKIP nor a slot",
     [](Draft& draft) { return write_slot(draft, -2); }},
    {"a row writes past the states", [](Draft& draft) { return write_slot(draft, state_slots(draft)); }},
    {"a row writes the state of another sequence",
     [](Draft& draft) -> Expected {
       const int32_t row = draft.any_live_row();
       const int32_t other = draft.any(draft.seqs());
       if (row < 0 || !draft.recurrent() || draft.owner(row) == other) return {};
       const StateSlot slot = draft.at(field::state_read_slot, other);
       draft.at(field::state_write_slots, row) = StateSlotOrSkip(slot);
       return broken("P5", FieldId::state_write_slots, row,
                     concat("a state slot that no sequence but ", draft.owner(row), " reads"),
                     concat(slot, ", the state slot of sequence ", other));
     }},
    {"two rows write one state",
     [](Draft& draft) -> Expected {
       const int32_t row = draft.any_live_row();
       if (row < 0 || !draft.recurrent()) return {};
       const int32_t last = draft.start(draft.owner(row) + 1) - 1;
       if (row == last) return {};
       const StateSlotOrSkip slot = draft.at(field::state_write_slots, last);
       draft.at(field::state_write_slots, row) = slot;
       return broken("P5", FieldId::state_write_slots, last, "a state slot that no other row writes",
                     concat(slot, ", which row ", row, " writes"));
     }},
    {"a row writes a state though no layer is recurrent",
     [](Draft& draft) -> Expected {
       const int32_t row = draft.any_live_row();
       if (row < 0 || draft.recurrent()) return {};
       draft.at(field::state_write_slots, row) = StateSlotOrSkip(StateSlot(1));
       return broken("P5", FieldId::state_write_slots, row, "SKIP, as no layer is recurrent", "1");
     }},
};

TEST(PlanValidator, NamesStatesThatASequenceMustNotRead) { try_mutations(kReads); }
TEST(PlanValidator, NamesStatesThatARowMustNotWrite) { try_mutations(kWrites); }

// Speculation keeps the state after each row: any slot that nobody else reads or writes will do.
TEST(PlanValidator, AllowsStatesAfterEveryRowInSlotsOfNobodyElse) {
  const StepLimits limits = [] {
    StepLimits made{.max_rows = 3,
                    .max_seqs = 1,
                    .max_logits_rows = 1,
                    .max_seq_len = 8,
                    .vocab_size = 4,
                    .num_groups = 1};
    made.groups[0] = {.kind = GroupKind::kState, .num_pages = 5};
    return made;
  }();
  const std::vector<TokenId> tokens(3);
  const std::vector<SequenceStep> steps = {
      {.tokens = tokens, .prompt_len = TokenCount(3), .state_slot = StateSlot(2)}};
  StepPlan plan;
  ASSERT_TRUE(PlanBuilder(limits, {nullptr})
                  .build({.epoch = Epoch(1),
                          .sequences = steps,
                          .bucket = {PaddedRows(3), PaddedSeqs(1), PaddedRows(1)}},
                         plan)
                  .ok());

  plan.edit(field::state_write_slots)[0] = StateSlotOrSkip(StateSlot(4));
  plan.edit(field::state_write_slots)[1] = StateSlotOrSkip(StateSlot(2));
  plan.edit(field::state_write_slots)[2] = StateSlotOrSkip(StateSlot(1));

  const Status valid = PlanValidator(limits).validate(plan);
  EXPECT_TRUE(valid.ok()) << valid.message();
}

}  // namespace
}  // namespace lockstep
