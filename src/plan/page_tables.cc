#include "plan/page_tables.h"

#include "base/check.h"

namespace lockstep {

PageTables::PageTables(int32_t rows, int32_t max_pages)
    : max_pages_(max_pages),
      entries_(static_cast<size_t>(rows) * static_cast<size_t>(max_pages)),
      lengths_(static_cast<size_t>(rows)),
      digests_(static_cast<size_t>(rows)) {
  append(TableRow(0), PageId(0));
}

void PageTables::append(TableRow row, PageId page) {
  int32_t& length = lengths_[static_cast<size_t>(row.get())];
  LS_CHECK(length < max_pages_, "table row ", row, " has ", length, " pages");
  entries_[static_cast<size_t>(row.get()) * static_cast<size_t>(max_pages_) + static_cast<size_t>(length)] =
      page;
  digests_[static_cast<size_t>(row.get())] ^= table_entry_digest(length, page);
  edits_.push_back({.row = row, .index = length, .page = page});
  ++length;
}

void PageTables::clear(TableRow row) {
  lengths_[static_cast<size_t>(row.get())] = 0;
  digests_[static_cast<size_t>(row.get())] = 0;
  std::erase_if(edits_, [row](const TableEdit& edit) { return edit.row == row; });
}

std::span<const PageId> PageTables::pages(TableRow row) const {
  return {&entries_[static_cast<size_t>(row.get()) * static_cast<size_t>(max_pages_)],
          static_cast<size_t>(lengths_[static_cast<size_t>(row.get())])};
}

}  // namespace lockstep
