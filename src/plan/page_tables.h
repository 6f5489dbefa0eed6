// PageTables: the host's copy of the device-resident page tables of one group, with the edits that the device
// has not seen and a digest for every length that a row may be read at.
#pragma once

#include <span>
#include <vector>

#include "base/table_digest.h"
#include "plan/fields.h"
#include "plan/zeroed_array.h"

namespace lockstep {

// Thread: one owner, the engine's. Memory: 12 bytes per entry in use.
class PageTables {
 public:
  // rows x max_pages entries. Row 0 is the pad row: its one entry is the reserved pad page 0.
  PageTables(int32_t rows, int32_t max_pages);

  int32_t rows() const { return static_cast<int32_t>(lengths_.size()); }
  // Appends a page to a row; becomes an edit of the next plan. Precondition: row > 0 and the row has room.
  void append(TableRow row, PageId page);
  // Forgets a row's entries: the row may be given to another sequence, whose first append begins it anew. No
  // edit: nothing reads past a row's length. Cost: O(pending edits).
  void clear(TableRow row);

  std::span<const PageId> pages(TableRow row) const;  // the row's entries, in order
  // Of the row's first `pages` entries: pages may be reserved ahead of what a step reads. Cost: O(1).
  Digest digest(TableRow row, PageCount pages) const;
  std::span<const TableEdit> pending_edits() const { return edits_; }
  // The pending edits have become part of a plan.
  void edits_taken() { edits_.clear(); }

 private:
  size_t place(TableRow row, int32_t index) const;
  void put(TableRow row, PageId page);

  int32_t max_pages_;
  ZeroedArray<PageId> entries_;   // [rows, max_pages]
  ZeroedArray<Digest> digests_;   // [rows, max_pages]: entry i is the digest of the entries up to i
  std::vector<int32_t> lengths_;  // [rows]
  std::vector<TableEdit> edits_;
};

}  // namespace lockstep
