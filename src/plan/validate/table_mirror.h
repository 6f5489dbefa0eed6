// TableMirror: the validator's own copy of the page tables of one group, made from the edits alone, as a
// device does. It also knows which rows hold a page, so that a page that one row writes is held by no other.
#pragma once

#include <span>
#include <vector>

#include "base/table_digest.h"
#include "plan/fields.h"
#include "plan/limits.h"
#include "plan/zeroed_array.h"

namespace lockstep {

// A row is its first length(row) entries. Edits are applied on trial and then kept or undone.
// Thread: one owner. Cost: O(1) per call, amortised over the edits; undo() O(entries of the rows begun anew).
// Memory: 20 bytes per entry in use.
class TableMirror {
 public:
  // A row's entry, as a number: what a list of holders is made of. kNone ends the list.
  using Entry = int32_t;
  static constexpr Entry kNone = -1;

  TableMirror() = default;
  TableMirror(const CacheGroup& group, int32_t max_edits);

  int32_t rows() const { return static_cast<int32_t>(lengths_.size()); }
  int32_t length(TableRow row) const { return lengths_[index_of(row)]; }
  // Preconditions: 0 <= index < length(row); 0 <= count <= length(row).
  PageId page(TableRow row, int32_t index) const { return pages_[static_cast<size_t>(entry(row, index))]; }
  Digest digest(TableRow row, int32_t count) const {
    return count > 0 ? digests_[static_cast<size_t>(entry(row, count - 1))] : 0;
  }
  // The row that wrote the page after this one's last and so ended it there; kCopy where a copy did,
  // TableRow(0) where none did.
  TableRow ended_by(TableRow row) const { return ended_by_[index_of(row)]; }

  Entry entry(TableRow row, int32_t index) const { return row.get() * max_pages_ + index; }
  TableRow row_of(Entry entry) const { return TableRow(entry / max_pages_); }
  int32_t place_in_row(Entry entry) const { return entry % max_pages_; }
  Entry first_holder(PageId page) const { return heads_[static_cast<size_t>(page.get())]; }
  Entry next_holder(Entry entry) const { return next_[static_cast<size_t>(entry)]; }

  // On trial. Preconditions: row, page and index are in range; index is length(row), or 0 to begin it anew.
  void apply(const TableEdit& edit);
  // Takes back everything since the last keep().
  void undo();
  void keep() { log_.clear(); }

  // A page is written by the row of `writer`, which holds it: every other row that holds it ends before it.
  // Precondition: no edit is on trial.
  void claim(PageId page, Entry writer);

 private:
  TableMirror(const CacheGroup& group, size_t entries, int32_t max_edits);
  struct Undo {
    TableRow row;
    int32_t index = 0;
    PageId page;         // what stood there
    int32_t length = 0;  // of the row
    TableRow ended_by;
  };
  static size_t index_of(TableRow row) { return static_cast<size_t>(row.get()); }
  void put(TableRow row, int32_t index, PageId page);
  void link(Entry entry);
  void unlink(Entry entry);
  void shorten(TableRow row, int32_t length);

  int32_t max_pages_ = 1;
  ZeroedArray<PageId> pages_;       // [rows, max_pages]
  ZeroedArray<Digest> digests_;     // [rows, max_pages]: of the entries up to and with this one
  ZeroedArray<Entry> next_, prev_;  // [rows, max_pages]: the entries that hold the same page
  std::vector<Entry> heads_;        // [pages]
  std::vector<int32_t> lengths_;    // [rows]
  std::vector<TableRow> ended_by_;  // [rows]
  std::vector<Undo> log_;
};

}  // namespace lockstep
