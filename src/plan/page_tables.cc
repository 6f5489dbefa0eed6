#include "plan/page_tables.h"

#include "base/check.h"

namespace lockstep {

PageTables::PageTables(int32_t rows, int32_t max_pages)
    : max_pages_(max_pages),
      entries_(static_cast<size_t>(rows) * static_cast<size_t>(max_pages)),
      digests_(static_cast<size_t>(rows) * static_cast<size_t>(max_pages)),
      lengths_(static_cast<size_t>(rows)) {
  put(TableRow(0), PageId(0));
}

size_t PageTables::place(TableRow row, int32_t index) const {
  return static_cast<size_t>(row.get()) * static_cast<size_t>(max_pages_) + static_cast<size_t>(index);
}

void PageTables::put(TableRow row, PageId page) {
  int32_t& length = lengths_[static_cast<size_t>(row.get())];
  LS_CHECK(length < max_pages_, "table row ", row, " has ", length, " pages");
  const size_t at = place(row, length);
  entries_[at] = page;
  digests_[at] = (length > 0 ? digests_[at - 1] : 0) ^ table_entry_digest(length, page);
  edits_.push_back({.row = row, .index = length, .page = page});
  ++length;
}

void PageTables::append(TableRow row, PageId page) {
  LS_CHECK(row.get() > 0 && row.get() < rows(), "table row ", row, " of ", rows());
  put(row, page);
}

void PageTables::clear(TableRow row) {
  LS_CHECK(row.get() > 0 && row.get() < rows(), "table row ", row, " of ", rows());
  lengths_[static_cast<size_t>(row.get())] = 0;
  std::erase_if(edits_, [row](const TableEdit& edit) { return edit.row == row; });
}

std::span<const PageId> PageTables::pages(TableRow row) const {
  LS_CHECK(row.get() >= 0 && row.get() < rows(), "table row ", row, " of ", rows());
  return {&entries_[place(row, 0)], static_cast<size_t>(lengths_[static_cast<size_t>(row.get())])};
}

Digest PageTables::digest(TableRow row, PageCount pages) const {
  LS_CHECK(pages.get() <= lengths_[static_cast<size_t>(row.get())], "table row ", row, " has fewer than ",
           pages, " pages");
  return pages.get() > 0 ? digests_[place(row, pages.get() - 1)] : 0;
}

}  // namespace lockstep
