// PageTables: the host's copy of the device-resident page tables of one group, with the edits that the device
// has not seen and a digest per row that is kept as entries change.
#pragma once

#include <span>
#include <vector>

#include "base/digest.h"
#include "plan/fields.h"

namespace lockstep {

// The part of a row's digest that one entry makes. Entries combine by xor, so a digest follows each edit in
// O(1) and does not depend on the order of edits.
constexpr Digest table_entry_digest(int32_t index, PageId page) {
  return mix64(static_cast<uint64_t>(static_cast<uint32_t>(index)) + 1, static_cast<uint32_t>(page.get()));
}

// Thread: one owner, the engine's.
class PageTables {
 public:
  // rows x max_pages entries. Row 0 is the pad row: its one entry is the reserved pad page 0.
  PageTables(int32_t rows, int32_t max_pages);

  // Appends a page to a row; becomes an edit of the next plan. Precondition: the row has room.
  void append(TableRow row, PageId page);
  // Forgets a row's entries: the row may be given to another sequence. No edit: nothing reads past a row's
  // length.
  void clear(TableRow row);

  std::span<const PageId> pages(TableRow row) const;  // the row's entries, in order
  Digest digest(TableRow row) const { return digests_[static_cast<size_t>(row.get())]; }
  std::span<const TableEdit> pending_edits() const { return edits_; }
  // The pending edits have become part of a plan.
  void edits_taken() { edits_.clear(); }

 private:
  int32_t max_pages_;
  std::vector<PageId> entries_;   // [rows, max_pages]
  std::vector<int32_t> lengths_;  // [rows]
  std::vector<Digest> digests_;   // [rows]
  std::vector<TableEdit> edits_;
};

}  // namespace lockstep
