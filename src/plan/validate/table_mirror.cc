#include "plan/validate/table_mirror.h"

namespace lockstep {

TableMirror::TableMirror(const CacheGroup& group, int32_t max_edits)
    : TableMirror(group, static_cast<size_t>(group.table_rows) * static_cast<size_t>(group.max_pages_per_seq),
                  max_edits) {}

TableMirror::TableMirror(const CacheGroup& group, size_t entries, int32_t max_edits)
    : max_pages_(group.max_pages_per_seq),
      pages_(entries),
      digests_(entries),
      next_(entries),
      prev_(entries),
      heads_(static_cast<size_t>(group.num_pages), kNone),
      lengths_(static_cast<size_t>(group.table_rows)),
      ended_by_(static_cast<size_t>(group.table_rows)) {
  log_.reserve(static_cast<size_t>(max_edits));
}

void TableMirror::link(Entry entry) {
  Entry& head = heads_[static_cast<size_t>(pages_[static_cast<size_t>(entry)].get())];
  next_[static_cast<size_t>(entry)] = head;
  prev_[static_cast<size_t>(entry)] = kNone;
  if (head != kNone) prev_[static_cast<size_t>(head)] = entry;
  head = entry;
}

void TableMirror::unlink(Entry entry) {
  const Entry next = next_[static_cast<size_t>(entry)];
  const Entry prev = prev_[static_cast<size_t>(entry)];
  if (next != kNone) prev_[static_cast<size_t>(next)] = prev;
  if (prev != kNone)
    next_[static_cast<size_t>(prev)] = next;
  else
    heads_[static_cast<size_t>(pages_[static_cast<size_t>(entry)].get())] = next;
}

void TableMirror::put(TableRow row, int32_t index, PageId page) {
  const Entry at = entry(row, index);
  pages_[static_cast<size_t>(at)] = page;
  digests_[static_cast<size_t>(at)] = digest(row, index) ^ table_entry_digest(index, page);
  link(at);
  lengths_[index_of(row)] = index + 1;
}

void TableMirror::shorten(TableRow row, int32_t length) {
  int32_t& current = lengths_[index_of(row)];
  for (; current > length; --current) unlink(entry(row, current - 1));
}

void TableMirror::apply(const TableEdit& edit) {
  log_.push_back({.row = edit.row,
                  .index = edit.index,
                  .page = pages_[static_cast<size_t>(entry(edit.row, edit.index))],
                  .length = length(edit.row),
                  .ended_by = ended_by(edit.row)});
  shorten(edit.row, edit.index);
  ended_by_[index_of(edit.row)] = TableRow(0);
  put(edit.row, edit.index, edit.page);
}

// Entries past a row's length keep their pages, so a row that was begun anew comes back from what still
// stands there and from the log.
void TableMirror::undo() {
  for (; !log_.empty(); log_.pop_back()) {
    const Undo& last = log_.back();
    shorten(last.row, last.index);
    pages_[static_cast<size_t>(entry(last.row, last.index))] = last.page;
    for (int32_t i = last.index; i < last.length; ++i)
      put(last.row, i, pages_[static_cast<size_t>(entry(last.row, i))]);
    ended_by_[index_of(last.row)] = last.ended_by;
  }
}

void TableMirror::claim(PageId page, Entry writer) {
  for (Entry holder = first_holder(page); holder != kNone;) {
    if (holder == writer) {
      holder = next_holder(holder);
      continue;
    }
    const TableRow row = row_of(holder);
    shorten(row, place_in_row(holder));
    ended_by_[index_of(row)] = row_of(writer);
    holder = first_holder(page);
  }
}

}  // namespace lockstep
