// P3, P4 and copies: each rule broken in many random plans.
#include "plan/validate/mutations.h"

namespace lockstep {
namespace {

std::string text_of(const TableEdit& edit) {
  return concat("page ", edit.page, " at index ", edit.index, " of table row ", edit.row);
}

std::string hex(Digest digest) { return std::string(FixedText(Hex{digest}).view()); }

// One edit of a plan that fulfils a condition, with the group that it belongs to.
struct PickedEdit {
  GroupId group;
  int32_t entry = -1;  // -1: there is none
};

template <typename Condition>
PickedEdit pick_edit(Draft& draft, Condition condition) {
  const GroupId group = draft.any_group(GroupKind::kPaged);
  if (group == GroupId(-1)) return {};
  std::vector<int32_t> found;
  for (int32_t e = 0; e < draft.at(field::num_table_edits, 0, group); ++e) {
    if (condition(draft.at(field::table_edits, e, group))) found.push_back(e);
  }
  if (found.empty()) return {};
  return {group, found[static_cast<size_t>(draft.any(static_cast<int32_t>(found.size())))]};
}

// Changes one edit to what is refused for `expected`.
Expected bend_edit(Draft& draft, bool (*condition)(const TableEdit&),
                   void (*bend)(TableEdit&, const CacheGroup&),
                   std::string (*expected)(const TableEdit& before, const CacheGroup&)) {
  const PickedEdit picked = pick_edit(draft, condition);
  if (picked.entry < 0) return {};
  TableEdit& edit = draft.at(field::table_edits, picked.entry, picked.group);
  const CacheGroup& group = draft.limits.group(picked.group);
  const std::string text = expected(edit, group);
  bend(edit, group);
  return broken("P3", FieldId::table_edits, picked.entry, text, text_of(edit), picked.group);
}

bool any_edit(const TableEdit&) { return true; }
bool of_a_sequence(const TableEdit& edit) { return edit.row > TableRow(0); }
bool appends(const TableEdit& edit) { return edit.index > 0; }

std::string row_range(const TableEdit&, const CacheGroup& group) {
  return concat("a table row of 0..", group.table_rows - 1);
}
std::string page_range(const TableEdit&, const CacheGroup& group) {
  return concat("a page of 1..", group.num_pages - 1);
}
std::string pad_entry(const TableEdit&, const CacheGroup&) {
  return "page 0 at index 0, the one entry of the pad row";
}
std::string next_index(const TableEdit& edit, const CacheGroup&) {
  return concat("index ", edit.index, ", the next of table row ", edit.row);
}

constexpr Mutation kEdits[] = {
    {"an edit names a row past the table",
     [](Draft& draft) {
       return bend_edit(
           draft, any_edit,
           [](TableEdit& edit, const CacheGroup& group) { edit.row = TableRow(group.table_rows); },
           row_range);
     }},
    {"an edit names a negative row",
     [](Draft& draft) {
       return bend_edit(
           draft, any_edit, [](TableEdit& edit, const CacheGroup&) { edit.row = TableRow(-1); }, row_range);
     }},
    {"an edit gives the pad row a page",
     [](Draft& draft) {
       return bend_edit(
           draft, of_a_sequence, [](TableEdit& edit, const CacheGroup&) { edit.row = TableRow(0); },
           pad_entry);
     }},
    {"an edit gives the pad row a second entry",
     [](Draft& draft) {
       return bend_edit(
           draft, of_a_sequence,
           [](TableEdit& edit, const CacheGroup&) {
             edit = {.row = TableRow(0), .index = 1, .page = PageId(0)};
           },
           pad_entry);
     }},
    {"an edit gives a sequence the pad page",
     [](Draft& draft) {
       return bend_edit(
           draft, of_a_sequence, [](TableEdit& edit, const CacheGroup&) { edit.page = PageId(0); },
           page_range);
     }},
    {"an edit names a page past the pool",
     [](Draft& draft) {
       return bend_edit(
           draft, of_a_sequence,
           [](TableEdit& edit, const CacheGroup& group) { edit.page = PageId(group.num_pages); }, page_range);
     }},
    {"an edit leaves a gap",
     [](Draft& draft) {
       return bend_edit(
           draft, appends, [](TableEdit& edit, const CacheGroup&) { ++edit.index; }, next_index);
     }},
    {"an edit overwrites an entry",
     [](Draft& draft) {
       return bend_edit(
           draft, [](const TableEdit& edit) { return edit.index > 1; },
           [](TableEdit& edit, const CacheGroup&) { --edit.index; }, next_index);
     }},
    {"an edit has a negative index",
     [](Draft& draft) {
       return bend_edit(
           draft, appends, [](TableEdit& edit, const CacheGroup&) { edit.index = -1; }, next_index);
     }},
    {"an edit stands twice in the list",
     [](Draft& draft) -> Expected {
       const PickedEdit picked = pick_edit(draft, of_a_sequence);
       if (picked.entry < 0) return {};
       const TableEdit edit = draft.at(field::table_edits, picked.entry, picked.group);
       if (edit.index + 1 == draft.limits.group(picked.group).max_pages_per_seq ||
           picked.entry + 1 == draft.at(field::num_table_edits, 0, picked.group))
         return {};
       draft.at(field::table_edits, picked.entry + 1, picked.group) = edit;
       return broken("P3", FieldId::table_edits, picked.entry + 1,
                     concat("index ", edit.index + 1, ", the next of table row ", edit.row), text_of(edit),
                     picked.group);
     }},
};

// A live sequence of a paged group that has a table row and tokens; -1 where there is none.
struct Holder {
  GroupId group;
  int32_t sequence = -1;
  int32_t pages = 0;
};

Holder pick_holder(Draft& draft) {
  Holder holder{.group = draft.any_group(GroupKind::kPaged), .sequence = draft.any(draft.seqs())};
  if (holder.group == GroupId(-1) || holder.sequence < 0) return {};
  const int32_t page_tokens = draft.limits.group(holder.group).page_tokens;
  holder.pages = (draft.length(holder.sequence) + page_tokens - 1) / page_tokens;
  return holder;
}

Expected bend_row(Draft& draft, TableRow (*bend)(const CacheGroup&)) {
  const Holder holder = pick_holder(draft);
  if (holder.sequence < 0) return {};
  const CacheGroup& group = draft.limits.group(holder.group);
  draft.at(field::table_rows, holder.sequence, holder.group) = bend(group);
  return broken("P3", FieldId::table_rows, holder.sequence,
                concat("a table row of 1..", group.table_rows - 1), concat(bend(group)), holder.group);
}

constexpr Mutation kTables[] = {
    {"a live sequence has the pad row",
     [](Draft& draft) { return bend_row(draft, [](const CacheGroup&) { return TableRow(0); }); }},
    {"a live sequence has a row past the table",
     [](Draft& draft) {
       return bend_row(draft, [](const CacheGroup& group) { return TableRow(group.table_rows); });
     }},
    {"a live sequence has a negative row",
     [](Draft& draft) { return bend_row(draft, [](const CacheGroup&) { return TableRow(-3); }); }},
    {"two sequences have one row",
     [](Draft& draft) -> Expected {
       const Holder holder = pick_holder(draft);
       if (holder.sequence < 1) return {};
       const int32_t other = draft.any(holder.sequence);
       const TableRow row = draft.at(field::table_rows, other, holder.group);
       draft.at(field::table_rows, holder.sequence, holder.group) = row;
       return broken("P3", FieldId::table_rows, holder.sequence, "a table row of its own",
                     concat(row, ", the table row of sequence ", other), holder.group);
     }},
    {"the last edit of the list is lost",
     [](Draft& draft) -> Expected {
       const GroupId group = draft.any_group(GroupKind::kPaged);
       const int32_t last = group == GroupId(-1) ? -1 : draft.at(field::num_table_edits, 0, group) - 1;
       if (last < 0) return {};
       const TableEdit edit = draft.at(field::table_edits, last, group);
       for (int32_t s = 0; s < draft.seqs() && appends(edit); ++s) {
         const int32_t page_tokens = draft.limits.group(group).page_tokens;
         const int32_t pages = (draft.length(s) + page_tokens - 1) / page_tokens;
         if (draft.at(field::table_rows, s, group) != edit.row || pages <= edit.index) continue;
         draft.at(field::table_edits, last, group) = {};
         draft.at(field::num_table_edits, 0, group) = last;
         return broken(
             "P3", FieldId::table_rows, s,
             text("a table row with ", Counted{pages, "page"}, " for ", Counted{draft.length(s), "token"}),
             text("table row ", edit.row, " with ", Counted{edit.index, "page"}), group);
       }
       return {};
     }},
    {"an edit carries another page than the table's owner put there",
     [](Draft& draft) -> Expected {
       const PickedEdit picked = pick_edit(draft, of_a_sequence);
       if (picked.entry < 0) return {};
       TableEdit& edit = draft.at(field::table_edits, picked.entry, picked.group);
       const int32_t page_tokens = draft.limits.group(picked.group).page_tokens;
       const int32_t last_page = draft.limits.group(picked.group).num_pages - 1;
       for (int32_t s = 0; s < draft.seqs(); ++s) {
         const int32_t pages = (draft.length(s) + page_tokens - 1) / page_tokens;
         if (draft.at(field::table_rows, s, picked.group) != edit.row || pages <= edit.index) continue;
         const PageId other(edit.page.get() == last_page ? last_page - 1 : edit.page.get() + 1);
         const Digest right = draft.at(field::table_digests, s, picked.group);
         const Digest wrong =
             right ^ table_entry_digest(edit.index, edit.page) ^ table_entry_digest(edit.index, other);
         edit.page = other;
         return broken("P3", FieldId::table_digests, s,
                       text(Hex{wrong}, ", of ", Counted{pages, "page"}, " in table row ", edit.row),
                       hex(right), picked.group);
       }
       return {};
     }},
    {"a digest is of other pages",
     [](Draft& draft) -> Expected {
       const Holder holder = pick_holder(draft);
       if (holder.sequence < 0) return {};
       Digest& digest = draft.at(field::table_digests, holder.sequence, holder.group);
       const Digest right = digest;
       digest ^= uint64_t{1} << draft.any(64);
       return broken("P3", FieldId::table_digests, holder.sequence,
                     text(Hex{right}, ", of ", Counted{holder.pages, "page"}, " in table row ",
                          draft.at(field::table_rows, holder.sequence, holder.group)),
                     hex(digest), holder.group);
     }},
    {"a pad sequence has a digest that is not of the pages it reads",
     [](Draft& draft) -> Expected {
       const GroupId group = draft.any_group(GroupKind::kPaged);
       const int32_t s = draft.any_pad_sequence();
       if (group == GroupId(-1) || s < 0) return {};
       Digest& digest = draft.at(field::table_digests, s, group);
       const Digest right = digest;
       digest = 1;
       return broken(
           "P3", FieldId::table_digests, s,
           text(Hex{right}, ", of ", Counted{draft.rows_of(s) > 0 ? 1 : 0, "page"}, " in table row 0"), "1",
           group);
     }},
};

// Gives a row with a slot another one.
Expected bend_slot(Draft& draft, SlotOrSkip (*bend)(int64_t slot, int32_t page_tokens)) {
  const GroupId group = draft.any_group(GroupKind::kPaged);
  const int32_t row = draft.any_live_row();
  if (group == GroupId(-1) || row < 0) return {};
  const int32_t page_tokens = draft.limits.group(group).page_tokens;
  SlotOrSkip& slot = draft.at(field::slot_mapping, row, group);
  const int64_t right = slot.slot();
  slot = bend(right, page_tokens);
  return broken(
      "P4", FieldId::slot_mapping, row,
      concat(right, " = page ", right / page_tokens, " * ", page_tokens, " + ", right % page_tokens),
      concat(slot), group);
}

constexpr Mutation kSlots[] = {
    {"a slot is the next one",
     [](Draft& draft) {
       return bend_slot(draft, [](int64_t slot, int32_t) { return SlotOrSkip(slot + 1); });
     }},
    {"a slot is in another page",
     [](Draft& draft) {
       return bend_slot(draft, [](int64_t slot, int32_t page) { return SlotOrSkip(slot + page); });
     }},
    {"a slot is in the pad page",
     [](Draft& draft) {
       return bend_slot(draft, [](int64_t slot, int32_t page) { return SlotOrSkip(slot % page); });
     }},
    {"a slot went through 32 bits",
     [](Draft& draft) {
       return bend_slot(draft, [](int64_t slot, int32_t) { return SlotOrSkip(slot + (int64_t{1} << 32)); });
     }},
    {"a live row is skipped",
     [](Draft& draft) { return bend_slot(draft, [](int64_t, int32_t) { return SlotOrSkip::skip(); }); }},
};

// Puts copies at the front of a state group's list, where no page table has a say.
Expected put_copies(Draft& draft, std::initializer_list<PageCopy> copies, const Violation& violation) {
  const GroupId group = draft.any_group(GroupKind::kState);
  if (group == GroupId(-1)) return {};
  int32_t c = 0;
  for (const PageCopy& copy : copies) draft.at(field::copies, c++, group) = copy;
  draft.at(field::num_copies, 0, group) = c;
  Violation placed = violation;
  placed.group = group;
  return placed;
}

// One copy with an end out of range, in a group of any kind.
Expected put_copy(Draft& draft, PageCopy (*bend)(PageId pages)) {
  const GroupId group(draft.any(draft.limits.num_groups));
  const int32_t pages = draft.limits.group(group).num_pages;
  const PageCopy copy = draft.at(field::copies, 0, group) = bend(PageId(pages));
  draft.at(field::num_copies, 0, group) = 1;
  return broken("GEO", FieldId::copies, 0, concat("source and target of 1..", pages - 1),
                concat(copy.source, " to ", copy.target), group);
}

constexpr Mutation kCopies[] = {
    {"a copy reads the reserved page",
     [](Draft& draft) { return put_copy(draft, [](PageId) {
                          return PageCopy{PageId(0), PageId(1)};
                        }); }},
    {"a copy writes the reserved page",
     [](Draft& draft) { return put_copy(draft, [](PageId) {
                          return PageCopy{PageId(1), PageId(0)};
                        }); }},
    {"a copy reads past the pool",
     [](Draft& draft) { return put_copy(draft, [](PageId pages) {
                          return PageCopy{pages, PageId(1)};
                        }); }},
    {"a copy writes past the pool",
     [](Draft& draft) { return put_copy(draft, [](PageId pages) {
                          return PageCopy{PageId(1), pages};
                        }); }},
    {"two copies have one target",
     [](Draft& draft) {
       return put_copies(
           draft, {{PageId(1), PageId(3)}, {PageId(2), PageId(3)}},
           *broken("GEO", FieldId::copies, 1, "a target of its own", "2 to 3, the target of copy 0"));
     }},
    {"a copy reads what another writes",
     [](Draft& draft) {
       return put_copies(draft, {{PageId(2), PageId(3)}, {PageId(1), PageId(2)}},
                         *broken("GEO", FieldId::copies, 0, "a source that no copy overwrites",
                                 "2 to 3, whose source is the target of copy 1"));
     }},
    {"a copy reads what it writes",
     [](Draft& draft) {
       return put_copies(draft, {{PageId(2), PageId(2)}},
                         *broken("GEO", FieldId::copies, 0, "a source that no copy overwrites",
                                 "2 to 2, whose source is the target of copy 0"));
     }},
};

TEST(PlanValidator, NamesEditsThatDoNotFitTheirRow) { try_mutations(kEdits); }
TEST(PlanValidator, NamesTableRowsThatDoNotServeTheirSequence) { try_mutations(kTables); }
TEST(PlanValidator, NamesSlotsThatDoNotFollowFromPages) { try_mutations(kSlots); }
TEST(PlanValidator, NamesCopiesWhoseOrderWouldMatter) { try_mutations(kCopies); }

}  // namespace
}  // namespace lockstep
