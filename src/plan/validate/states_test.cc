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

// One sequence of a model whose layers are all recurrent, with slots 1..4.
class StateAges : public testing::Test {
 protected:
  static StepLimits limits() {
    StepLimits made{.max_rows = 3,
                    .max_seqs = 1,
                    .max_logits_rows = 1,
                    .max_seq_len = 8,
                    .max_copies = 2,
                    .vocab_size = 4,
                    .num_groups = 1};
    made.groups[0] = {.kind = GroupKind::kState, .num_pages = 5};
    return made;
  }
  void build(int32_t computed, int32_t rows, int32_t slot, std::vector<PageCopy> copies = {}) {
    const std::vector<SequenceStep> steps = {{.tokens = std::span(tokens_).first(static_cast<size_t>(rows)),
                                              .computed = TokenCount(computed),
                                              .prompt_len = TokenCount(3),
                                              .state_slot = StateSlot(slot)}};
    StepRequest request{.epoch = Epoch(++epoch_),
                        .sequences = steps,
                        .bucket = {PaddedRows(rows), PaddedSeqs(1), PaddedRows(0)}};
    request.copies[0] = copies;
    ASSERT_TRUE(builder_.build(request, plan_).ok());
  }
  // Three rows, each of which keeps the state after it in a slot of its own, as speculation does.
  void keep_every_state() {
    build(0, 3, 2);
    plan_.edit(field::state_write_slots)[0] = StateSlotOrSkip(StateSlot(4));
    plan_.edit(field::state_write_slots)[1] = StateSlotOrSkip(StateSlot(2));
    plan_.edit(field::state_write_slots)[2] = StateSlotOrSkip(StateSlot(1));
    ASSERT_EQ(validator_.validate(plan_).message(), "");
  }

  std::vector<TokenId> tokens_ = std::vector<TokenId>(3);
  PlanBuilder builder_{limits(), {nullptr}};
  PlanValidator validator_{limits()};
  StepPlan plan_;
  uint64_t epoch_ = 0;
};

TEST_F(StateAges, AllowStatesAfterEveryRowInSlotsOfNobodyElse) {
  keep_every_state();
  build(1, 1, 4);

  EXPECT_EQ(validator_.validate(plan_).message(), "");
}

TEST_F(StateAges, NameASlotWhoseStateIsAheadOfItsSequence) {
  keep_every_state();
  build(1, 1, 1);

  EXPECT_EQ(validator_.validate(plan_).message(),
            "plan 2: P5 state_read_slot[0] is 1, which holds the state after 3 tokens; expected a slot that "
            "holds the state after 1 token");
}

TEST_F(StateAges, NameASlotThatHoldsNoState) {
  keep_every_state();
  build(3, 1, 3);

  EXPECT_EQ(validator_.validate(plan_).message(),
            "plan 2: P5 state_read_slot[0] is 3, which holds no state; expected a slot that holds the state "
            "after 3 tokens");
}

TEST_F(StateAges, FollowCopies) {
  keep_every_state();
  build(2, 1, 3, {{PageId(2), PageId(3)}});
  EXPECT_EQ(validator_.validate(plan_).message(), "");
  build(3, 1, 3, {{PageId(4), PageId(3)}});

  EXPECT_EQ(validator_.validate(plan_).message(),
            "plan 3: P5 state_read_slot[0] is 3, which holds the state after 1 token; expected a slot that "
            "holds the state after 3 tokens");
}

TEST_F(StateAges, AreThoseOfPlansThatWereValid) {
  keep_every_state();
  build(3, 2, 1);
  plan_.edit(field::seq_lens)[0] = TokenCount(6);
  EXPECT_EQ(validator_.validate(plan_).message(),
            "plan 2: P2 seq_lens[0] is 6; expected 5 = computed 3 + rows 2");

  build(3, 2, 1);

  EXPECT_EQ(validator_.validate(plan_).message(), "");
}

// What people and records read is one fault in two forms.
TEST_F(StateAges, AreNamedInParts) {
  keep_every_state();
  build(1, 1, 1);

  const Status refused = validator_.validate(plan_);

  ASSERT_NE(refused.fault(), nullptr);
  const Fault& fault = *refused.fault();
  EXPECT_EQ(fault.check, "P5");
  EXPECT_EQ(fault.moment, Moment::kPlan);
  EXPECT_EQ(fault.field, "state_read_slot");
  EXPECT_EQ(fault.row, 0);
  EXPECT_EQ(fault.step, 2u);
  EXPECT_EQ(fault.found, "1, which holds the state after 3 tokens");
  EXPECT_EQ(fault.expected, "a slot that holds the state after 1 token");
}

}  // namespace
}  // namespace lockstep
