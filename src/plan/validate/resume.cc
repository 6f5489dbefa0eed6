// Beginning in the middle: a recorder keeps the last plans of an engine, not all of them.
#include <algorithm>

#include "plan/validate.h"

namespace lockstep {

Status PlanValidator::resume(const Past& past) {
  for (int32_t g = 0; g < limits_.num_groups; ++g) {
    const auto at = static_cast<size_t>(g);
    std::fill(state_ages_[at].begin(), state_ages_[at].end(), kUnknownAge);
    if (!paged(GroupId(g))) continue;
    const CacheGroup& group = limits_.group(GroupId(g));
    mirrors_[at] = TableMirror(group, limits_.max_edits);
    for (size_t e = 0; e < past.tables[at].size(); ++e) {
      const TableEdit& entry = past.tables[at][e];
      const bool pad = entry.row == TableRow(0);
      const int32_t room = pad ? 1 : group.max_pages_per_seq;
      const bool row_fits = entry.row >= TableRow(0) && entry.row.get() < group.table_rows;
      const bool page_fits =
          entry.page >= PageId(pad ? 0 : 1) && entry.page.get() < (pad ? 1 : group.num_pages);
      if (!row_fits || !page_fits || entry.index != mirrors_[at].length(entry.row) || entry.index >= room) {
        return error(Code::kInvalidArgument, "validator: entry ", e, " of the tables of group ", g,
                     " is page ", entry.page, " at index ", entry.index, " of table row ", entry.row,
                     "; expected the next entry of a row, with a page of the pool");
      }
      mirrors_[at].apply(entry);
      mirrors_[at].keep();
    }
  }
  last_epoch_ = past.epoch;
  last_logits_rows_ = past.logits_rows;
  return {};
}

}  // namespace lockstep
