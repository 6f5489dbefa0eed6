// P9 and what the other rules say of plans that are one rank's share of the rows: each broken in many random
// plans.
#include "plan/validate/mutations.h"

namespace lockstep {
namespace {

constexpr int32_t kRanks = 3;

bool cut(Draft& draft) { return draft.at(field::cp_ranks, 0) == kRanks; }
int32_t whole(Draft& draft) { return draft.seqs() / 2; }
// The late chunk of some sequence, -1 where the plan is not cut.
int32_t any_late(Draft& draft) {
  const int32_t s = cut(draft) ? draft.any(whole(draft)) : -1;
  return s < 0 ? -1 : s + whole(draft);
}
std::string run(const CpSegment& segment) { return concat(segment.length, " from ", segment.start); }

constexpr Mutation kCuts[] = {
    {"rows are shared by a number of ranks that there is not",
     [](Draft& draft) -> Expected {
       draft.at(field::cp_ranks, 0) = kRanks + 1;
       return broken("P9", FieldId::cp_ranks, 0, "1 or 3, all ranks", "4");
     }},
    {"the plan is for a rank that there is not",
     [](Draft& draft) -> Expected {
       const int32_t ranks = draft.at(field::cp_ranks, 0);
       draft.at(field::cp_rank, 0) = ranks;
       return broken("P9", FieldId::cp_rank, 0, concat("0..", ranks - 1), concat(ranks));
     }},
    {"a sequence lacks its late chunk",
     [](Draft& draft) -> Expected {
       if (!cut(draft)) return {};
       draft.at(field::num_seqs, 0) = LiveSeqs(draft.seqs() - 1);
       return broken("P9", FieldId::num_seqs, 0, "an early and a late chunk of each sequence",
                     concat(draft.seqs()));
     }},
    {"the halves of a sequence know different rows of it",
     [](Draft& draft) -> Expected {
       const int32_t s = any_late(draft);
       if (s < 0) return {};
       CpSegment& span = draft.at(field::cp_spans, s);
       const CpSegment right = span;
       span.start = Position(span.start.get() + 1);
       if (span.start.get() + span.length.get() > draft.limits.max_seq_len) return {};
       return broken("P9", FieldId::cp_spans, s,
                     concat(run(right), " as in sequence ", s - whole(draft), ", its early chunk"),
                     run(span));
     }},
    {"a whole sequence has other rows than its step",
     [](Draft& draft) -> Expected {
       const int32_t s = draft.any(draft.seqs());
       if (s < 0 || cut(draft)) return {};
       CpSegment& span = draft.at(field::cp_spans, s);
       const CpSegment right = span;
       span.length = RowCount(span.length.get() + 1);
       return broken("P9", FieldId::cp_spans, s, run(right), run(span));
     }},
    {"a rank's chunks are those of another",
     [](Draft& draft) -> Expected {
       const int32_t s = any_late(draft);
       if (s < 0) return {};
       CpSegments& segments = draft.at(field::cp_segments, s);
       const CpSegments right = segments;
       std::swap(segments.prev, segments.next);
       if (segments == right) return {};
       return broken("P9", FieldId::cp_segments, s, concat(run(right.prev), " and ", run(right.next)),
                     concat(run(right.next), " and ", run(right.prev)));
     }},
};

// Every field of a late chunk but for the cut itself is moved to one row earlier, as by somebody who cuts the
// rows in two equal halves.
Expected cut_earlier(Draft& draft) {
  const int32_t s = any_late(draft);
  if (s < 0 || draft.computed(s) == 0) return {};
  const int32_t right = draft.computed(s);
  draft.at(field::computed_lens, s) = TokenCount(right - 1);
  draft.at(field::seq_lens, s) = TokenCount(draft.length(s) - 1);
  for (int32_t row = draft.start(s); row < draft.start(s + 1); ++row)
    draft.at(field::positions, row) = Position(draft.at(field::positions, row).get() - 1);
  TokenCount longest(0);
  for (const TokenCount length : draft.plan.get(field::seq_lens)) longest = std::max(longest, length);
  draft.at(field::max_seq_len, 0) = longest;
  return broken("P9", FieldId::computed_lens, s, concat(right, ", where the rank has a late chunk"),
                concat(right - 1));
}

constexpr Mutation kHalves[] = {
    {"a late chunk begins a row too early", cut_earlier},
    {"the halves of a sequence have different prompts",
     [](Draft& draft) -> Expected {
       const int32_t s = any_late(draft);
       if (s < 0) return {};
       TokenCount& prompt = draft.at(field::prompt_lens, s);
       const TokenCount right = prompt;
       prompt = TokenCount(right.get() % draft.limits.max_seq_len + 1);
       return broken("P2", FieldId::prompt_lens, s,
                     concat(right, " as in sequence ", s - whole(draft), ", its early chunk"),
                     concat(prompt));
     }},
    {"the halves of a sequence read different table rows",
     [](Draft& draft) -> Expected {
       const int32_t s = any_late(draft);
       const GroupId group = draft.any_group(GroupKind::kPaged);
       if (s < 0 || group == GroupId(-1)) return {};
       TableRow& row = draft.at(field::table_rows, s, group);
       const TableRow right = row;
       row = TableRow(right.get() % (draft.limits.group(group).table_rows - 1) + 1);
       return broken("P3", FieldId::table_rows, s,
                     concat(right, ", the table row of its early chunk, sequence ", s - whole(draft)),
                     concat(row), group);
     }},
    {"the halves of a sequence have different states",
     [](Draft& draft) -> Expected {
       const int32_t s = any_late(draft);
       const GroupId group = draft.any_group(GroupKind::kState);
       if (s < 0 || group == GroupId(-1)) return {};
       StateSlot& slot = draft.at(field::state_read_slot, s);
       const StateSlot right = slot;
       slot = StateSlot(right.get() % (draft.limits.group(group).num_pages - 1) + 1);
       return broken("P5", FieldId::state_read_slot, s,
                     concat(right, ", the state slot of its early chunk, sequence ", s - whole(draft)),
                     concat(slot));
     }},
    {"the halves of a sequence have different penalty slots",
     [](Draft& draft) -> Expected {
       const int32_t s = any_late(draft);
       if (s < 0 || draft.limits.penalty_slots == 0) return {};
       PenaltySlot& slot = draft.at(field::penalty_slots, s);
       const PenaltySlot right = slot;
       slot = PenaltySlot((right.get() + 2) % (draft.limits.penalty_slots + 1) - 1);
       return broken("GEO", FieldId::penalty_slots, s,
                     concat(right, ", the penalty slot of its early chunk, sequence ", s - whole(draft)),
                     concat(slot));
     }},
    {"a chunk hands on no state",
     [](Draft& draft) -> Expected {
       const int32_t row = cut(draft) && draft.recurrent() ? draft.any_live_row() : -1;
       if (row < 0) return {};
       const int32_t s = draft.owner(row), last = draft.start(s + 1) - 1;
       draft.at(field::state_write_slots, last) = StateSlotOrSkip::skip();
       return broken("P5", FieldId::state_write_slots, last,
                     concat(draft.at(field::state_read_slot, s), ", the state slot of sequence ", s), "SKIP");
     }},
    {"a chunk writes its state before its last row",
     [](Draft& draft) -> Expected {
       const int32_t row = cut(draft) && draft.recurrent() ? draft.any_live_row() : -1;
       if (row < 0 || row + 1 == draft.start(draft.owner(row) + 1)) return {};
       const StateSlot slot = draft.at(field::state_read_slot, draft.owner(row));
       draft.at(field::state_write_slots, row) = StateSlotOrSkip(slot);
       return broken("P5", FieldId::state_write_slots, row, "SKIP before the last row of a chunk",
                     concat(slot));
     }},
};

// An entry of the slots of all ranks' rows: a live one, or a pad one.
int32_t any_gathered(Draft& draft, GroupId group, bool live) {
  std::vector<int32_t> rows;
  const auto slots = draft.plan.get(field::cp_slot_mapping, group);
  for (size_t i = 0; i < slots.size(); ++i) {
    if (slots[i].is_skip() != live) rows.push_back(static_cast<int32_t>(i));
  }
  return rows.empty() ? -1 : rows[static_cast<size_t>(draft.any(static_cast<int32_t>(rows.size())))];
}

constexpr Mutation kGathered[] = {
    {"keys of some rank go one slot further",
     [](Draft& draft) -> Expected {
       const GroupId group = draft.any_group(GroupKind::kPaged);
       if (group == GroupId(-1)) return {};
       const int32_t row = any_gathered(draft, group, true);
       if (row < 0) return {};
       SlotOrSkip& slot = draft.at(field::cp_slot_mapping, row, group);
       const int64_t right = slot.slot(), tokens = draft.limits.group(group).page_tokens;
       slot = SlotOrSkip(right + 1);
       return broken("P4", FieldId::cp_slot_mapping, row,
                     concat(right, " = page ", right / tokens, " * ", tokens, " + ", right % tokens),
                     concat(right + 1), group);
     }},
    {"pad keys of some rank are stored",
     [](Draft& draft) -> Expected {
       const GroupId group = draft.any_group(GroupKind::kPaged);
       if (group == GroupId(-1)) return {};
       const int32_t row = any_gathered(draft, group, false);
       if (row < 0) return {};
       draft.at(field::cp_slot_mapping, row, group) = SlotOrSkip(0);
       return broken("P4", FieldId::cp_slot_mapping, row,
                     cut(draft) ? concat("SKIP in a pad row of rank ", row / draft.rows_padded())
                                : std::string("SKIP, as every rank runs all rows"),
                     "0", group);
     }},
    {"a logits row is another row of its rank",
     [](Draft& draft) -> Expected {
       const int32_t r = cut(draft) ? draft.any(draft.logits_rows()) : -1;
       if (r < 0) return {};
       RowIndex& row = draft.at(field::logits_rows, r);
       row = RowIndex(row.get() + draft.rows_padded());
       return broken(
           "GEO", FieldId::logits_rows, r,
           concat("the last row of a sequence, on the rank that has it",
                  r > 0 ? ", past those of the entries before" : ""),
           concat(row, " of rank ",
                  draft.at(field::cp_logits_rows, r).get() / draft.plan.bucket().logits_rows.get()));
     }},
    {"a logits row is taken from no rank",
     [](Draft& draft) -> Expected {
       const int32_t r = cut(draft) ? draft.any(draft.logits_rows()) : -1;
       if (r < 0) return {};
       const int32_t padded = draft.plan.bucket().logits_rows.get();
       draft.at(field::cp_logits_rows, r) = RowIndex(kRanks * padded + r);
       return broken("GEO", FieldId::cp_logits_rows, r, concat("a rank of 0..2 * ", padded, " + ", r),
                     concat(kRanks * padded + r));
     }},
    {"a logits row that every rank has is gathered",
     [](Draft& draft) -> Expected {
       const int32_t r = cut(draft) ? -1 : draft.any(draft.logits_rows());
       if (r < 0) return {};
       draft.at(field::cp_logits_rows, r) = RowIndex(r);
       return broken("GEO", FieldId::cp_logits_rows, r, "-1, as every rank computes the row", concat(r));
     }},
};

TEST(CpPlans, NameCutsThatAreNotTheirs) { try_mutations(kCuts, kRanks); }
TEST(CpPlans, NameHalvesThatAreNotOfOneSequence) { try_mutations(kHalves, kRanks); }
TEST(CpPlans, NameGatheredRowsThatAreNotTheirs) { try_mutations(kGathered, kRanks); }

TEST(CpPlans, OfARankThatIsAloneAreNotCut) {
  constexpr Mutation kAlone[] = {{"rows are shared though a rank is alone", [](Draft& draft) -> Expected {
                                    draft.at(field::cp_ranks, 0) = 2;
                                    return broken("P9", FieldId::cp_ranks, 0, "1, as a rank is alone", "2");
                                  }}};
  try_mutations(kAlone);
}

}  // namespace
}  // namespace lockstep
