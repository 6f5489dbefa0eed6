// P3: page tables and who may write which page. P4: where keys and values go. Copies.
#include <algorithm>

#include "base/math.h"
#include "plan/validate.h"

namespace lockstep {
namespace {

FixedText text_of(const TableEdit& edit) {
  return FixedText("page ", edit.page, " at index ", edit.index, " of table row ", edit.row);
}

FixedText text_of(const PageCopy& copy) { return FixedText(copy.source, " to ", copy.target); }

}  // namespace

// An edit appends to its row, or begins the row anew for another sequence; so there are no gaps, and no entry
// is written twice.
bool PlanValidator::check_edits(const StepPlan& plan, GroupId group) {
  const CacheGroup& limits = limits_.group(group);
  TableMirror& mirror = mirrors_[static_cast<size_t>(group.get())];
  Stamps& edited = edited_[static_cast<size_t>(group.get())];
  edited.clear();
  const auto edits = plan.get(field::table_edits, group);
  const int32_t count = plan.scalar(field::num_table_edits, group);
  for (int32_t e = 0; e < count; ++e) {
    const TableEdit& edit = edits[static_cast<size_t>(e)];
    const Where where{"P3", FieldId::table_edits, e, group};
    if (edit.row < TableRow(0) || edit.row.get() >= mirror.rows())
      return refuse(where, FixedText("a table row of 0..", mirror.rows() - 1), text_of(edit));
    if (edit.row == TableRow(0) && (edit.page != PageId(0) || edit.index != 0))
      return refuse(where, FixedText("page 0 at index 0, the one entry of the pad row"), text_of(edit));
    if (edit.row != TableRow(0) && (edit.page <= PageId(0) || edit.page.get() >= limits.num_pages))
      return refuse(where, FixedText("a page of 1..", limits.num_pages - 1), text_of(edit));
    // The pad row is written once and never anew, so a count that reaches into the zero tail shows.
    const bool pad = edit.row == TableRow(0);
    const int32_t room = pad ? 1 : limits.max_pages_per_seq;
    const int32_t next = mirror.length(edit.row);
    const bool begins = edit.index == 0 && !pad && edited.mark(edit.row.get(), e) == -1;
    if (!begins && (edit.index != next || next == room)) {
      return refuse(where,
                    next == room ? FixedText("no edit: table row ", edit.row, " is full")
                                 : FixedText("index ", next, ", the next of table row ", edit.row),
                    text_of(edit));
    }
    edited.mark(edit.row.get(), e);
    mirror.apply(edit);
  }
  return true;
}

bool PlanValidator::check_tables(const StepPlan& plan, GroupId group) {
  live_rows_[static_cast<size_t>(group.get())].clear();
  const auto sequences = static_cast<int32_t>(plan.get(field::table_rows, group).size());
  for (int32_t s = 0; s < sequences; ++s) {
    if (!check_row(plan, group, s)) return false;
  }
  return true;
}

// Holds the table row of one sequence to: in range, its own, with pages for all its tokens, with the digest
// of exactly those. Pad sequences read row 0, whatever their entry says; P11 holds the entry to that.
bool PlanValidator::check_row(const StepPlan& plan, GroupId group, int32_t s) {
  const TableMirror& mirror = mirrors_[static_cast<size_t>(group.get())];
  const auto at = static_cast<size_t>(s);
  const bool live = s < plan.scalar(field::num_seqs).get();
  const TableRow row = live ? plan.get(field::table_rows, group)[at] : TableRow(0);
  const Where where{"P3", FieldId::table_rows, s, group};
  if (live) {
    if (row <= TableRow(0) || row.get() >= mirror.rows())
      return refuse(where, FixedText("a table row of 1..", mirror.rows() - 1), FixedText(row));
    const int32_t early = early_half(plan, s);
    const TableRow shared = early < 0 ? row : plan.get(field::table_rows, group)[static_cast<size_t>(early)];
    if (row != shared) {
      return refuse(where, FixedText(shared, ", the table row of its early chunk, sequence ", early),
                    FixedText(row));
    }
    const int32_t other = early >= 0 ? -1 : live_rows_[static_cast<size_t>(group.get())].mark(row.get(), s);
    if (other >= 0) {
      return refuse(where, FixedText("a table row of its own"),
                    FixedText(row, ", the table row of sequence ", other));
    }
  }
  // Keys of all ranks are stored, so the pages of a sequence's whole span are needed, whoever reads how many.
  const TokenCount length = live ? TokenCount(end_of(plan, s)) : plan.get(field::seq_lens)[at];
  const int32_t needed = ceil_div(length.get(), limits_.group(group).page_tokens);
  if (needed > mirror.length(row)) {
    const TableRow writer = mirror.ended_by(row);
    const FixedText held("table row ", row, " with ", Counted{mirror.length(row), "page"});
    return refuse(
        where,
        FixedText("a table row with ", Counted{needed, "page"}, " for ", Counted{length.get(), "token"}),
        writer == TableRow(0) ? held
                              : FixedText(held.view(), "; table row ", writer, " has written the next"));
  }
  const int32_t read = ceil_div(plan.get(field::seq_lens)[at].get(), limits_.group(group).page_tokens);
  const Digest digest = mirror.digest(row, read);
  const Digest found = plan.get(field::table_digests, group)[at];
  return found == digest ||
         refuse({"P3", FieldId::table_digests, s, group},
                FixedText(Hex{digest}, ", of ", Counted{read, "page"}, " in table row ", row),
                FixedText(Hex{found}));
}

bool PlanValidator::check_owners(const StepPlan& plan, GroupId group) {
  const int32_t page_tokens = limits_.group(group).page_tokens;
  for (int32_t s = 0; s < whole_sequences(plan); ++s) {
    const CpSegment& span = plan.get(field::cp_spans)[static_cast<size_t>(s)];
    if (span.length == RowCount(0)) continue;
    const int32_t first = span.start.get() / page_tokens;
    const int32_t last = (end_of(plan, s) - 1) / page_tokens;
    for (int32_t index = first; index <= last; ++index) {
      if (!check_owner(plan, group, s, index)) return false;
    }
  }
  return true;
}

// The sequence of this plan that reads an entry of the tables, or -1. What stands past a sequence's length
// may be left over from the row's owner before.
int32_t PlanValidator::reader_of(const StepPlan& plan, GroupId group, TableMirror::Entry entry) const {
  const TableMirror& mirror = mirrors_[static_cast<size_t>(group.get())];
  const int32_t sequence = live_rows_[static_cast<size_t>(group.get())].seen_by(mirror.row_of(entry).get());
  if (sequence < 0) return -1;
  const int64_t first_token = int64_t{mirror.place_in_row(entry)} * limits_.group(group).page_tokens;
  return end_of(plan, sequence) > first_token ? sequence : -1;
}

// Pages may be shared while nobody writes them; one that this step writes is held by its writer alone.
bool PlanValidator::check_owner(const StepPlan& plan, GroupId group, int32_t s, int32_t index) {
  const TableMirror& mirror = mirrors_[static_cast<size_t>(group.get())];
  const TableRow row = plan.get(field::table_rows, group)[static_cast<size_t>(s)];
  const PageId page = mirror.page(row, index);
  const TableMirror::Entry own = mirror.entry(row, index);
  for (auto holder = mirror.first_holder(page); holder != TableMirror::kNone;
       holder = mirror.next_holder(holder)) {
    const int32_t sequence = holder == own ? -1 : reader_of(plan, group, holder);
    if (sequence < 0) continue;
    return refuse({"P3", FieldId::table_rows, s, group},
                  FixedText("a table row that alone holds page ", page, ", which the sequence writes"),
                  FixedText(row, "; the page also stands at index ", mirror.place_in_row(holder),
                            " of table row ", mirror.row_of(holder), " of sequence ", sequence));
  }
  return true;
}

// Slots are unique because they follow from pages, and a written page has one holder.
bool PlanValidator::check_slots(const StepPlan& plan, GroupId group) {
  const TableMirror& mirror = mirrors_[static_cast<size_t>(group.get())];
  const auto starts = plan.get(field::query_start_loc);
  const auto computed = plan.get(field::computed_lens);
  const auto table_rows = plan.get(field::table_rows, group);
  const auto slots = plan.get(field::slot_mapping, group);
  const int32_t page_tokens = limits_.group(group).page_tokens;
  const int32_t live = plan.scalar(field::num_seqs).get();
  for (int32_t s = 0; s < live; ++s) {
    const auto at = static_cast<size_t>(s);
    int32_t index = computed[at].get() / page_tokens;
    int32_t offset = computed[at].get() % page_tokens;
    for (int32_t row = starts[at].get(); row < starts[at + 1].get(); ++row) {
      const int64_t page = mirror.page(table_rows[at], index).get();
      const SlotOrSkip expected(page * page_tokens + offset);
      if (slots[static_cast<size_t>(row)] != expected) {
        return refuse({"P4", FieldId::slot_mapping, row, group},
                      FixedText(expected, " = page ", page, " * ", page_tokens, " + ", offset),
                      FixedText(slots[static_cast<size_t>(row)]));
      }
      if (++offset == page_tokens) {
        offset = 0;
        ++index;
      }
    }
  }
  return true;
}

// Copies run together, before everything else of the step: no order among them may matter.
bool PlanValidator::check_copies(const StepPlan& plan, GroupId group) {
  Stamps& targets = copied_[static_cast<size_t>(group.get())];
  targets.clear();
  const auto copies =
      plan.get(field::copies, group).first(static_cast<size_t>(plan.scalar(field::num_copies, group)));
  const int32_t pages = limits_.group(group).num_pages;
  const auto in_range = [pages](PageId page) { return page > PageId(0) && page.get() < pages; };
  for (size_t c = 0; c < copies.size(); ++c) {
    const Where where{"GEO", FieldId::copies, static_cast<int32_t>(c), group};
    if (!in_range(copies[c].source) || !in_range(copies[c].target))
      return refuse(where, FixedText("source and target of 1..", pages - 1), text_of(copies[c]));
    const int32_t other = targets.mark(copies[c].target.get(), static_cast<int32_t>(c));
    if (other >= 0) {
      return refuse(where, FixedText("a target of its own"),
                    FixedText(text_of(copies[c]).view(), ", the target of copy ", other));
    }
  }
  for (size_t c = 0; c < copies.size(); ++c) {
    const int32_t other = targets.seen_by(copies[c].source.get());
    if (other >= 0) {
      return refuse({"GEO", FieldId::copies, static_cast<int32_t>(c), group},
                    FixedText("a source that no copy overwrites"),
                    FixedText(text_of(copies[c]).view(), ", whose source is the target of copy ", other));
    }
    if (paged(group) && !check_copied_page(plan, group, static_cast<int32_t>(c))) return false;
  }
  return true;
}

// A copy writes its target, so at most one live sequence holds that; one that waits may have been given it.
bool PlanValidator::check_copied_page(const StepPlan& plan, GroupId group, int32_t copy) {
  const TableMirror& mirror = mirrors_[static_cast<size_t>(group.get())];
  const PageCopy& pages = plan.get(field::copies, group)[static_cast<size_t>(copy)];
  int32_t holder = -1;
  for (auto entry = mirror.first_holder(pages.target); entry != TableMirror::kNone;
       entry = mirror.next_holder(entry)) {
    const int32_t sequence = reader_of(plan, group, entry);
    if (sequence < 0) continue;
    if (holder >= 0) {
      return refuse({"P3", FieldId::copies, copy, group},
                    FixedText("a target that one live sequence holds at most"),
                    FixedText(text_of(pages).view(), ", held by sequences ", std::min(holder, sequence),
                              " and ", std::max(holder, sequence)));
    }
    holder = sequence;
  }
  return true;
}

void PlanValidator::claim_pages(const StepPlan& plan, GroupId group) {
  TableMirror& mirror = mirrors_[static_cast<size_t>(group.get())];
  const auto table_rows = plan.get(field::table_rows, group);
  const int32_t page_tokens = limits_.group(group).page_tokens;
  for (int32_t c = 0; c < plan.scalar(field::num_copies, group); ++c) {
    const PageId target = plan.get(field::copies, group)[static_cast<size_t>(c)].target;
    auto holder = mirror.first_holder(target);
    while (holder != TableMirror::kNone && reader_of(plan, group, holder) < 0)
      holder = mirror.next_holder(holder);
    if (holder != TableMirror::kNone) mirror.claim(target, holder);
  }
  for (int32_t s = 0; s < whole_sequences(plan); ++s) {
    const auto at = static_cast<size_t>(s);
    const CpSegment& span = plan.get(field::cp_spans)[at];
    if (span.length == RowCount(0)) continue;
    const int32_t last = (end_of(plan, s) - 1) / page_tokens;
    for (int32_t index = span.start.get() / page_tokens; index <= last; ++index)
      mirror.claim(mirror.page(table_rows[at], index), mirror.entry(table_rows[at], index));
  }
}

}  // namespace lockstep
