#include "plan/cp_cut.h"

#include "base/math.h"
#include "plan/plan_builder.h"

namespace lockstep {

bool cp_cuts(std::span<const SequenceStep> sequences, int32_t ranks) {
  return ranks > 1 && std::any_of(sequences.begin(), sequences.end(),
                                  [](const SequenceStep& step) { return step.tokens.size() > 1; });
}

CpExtent cp_extent(std::span<const SequenceStep> sequences, int32_t ranks) {
  const auto seqs = static_cast<int64_t>(sequences.size());
  const bool cut = cp_cuts(sequences, ranks);
  CpExtent extent{.rows = 0, .least_rows = 0, .seqs = cut ? 2 * seqs : seqs};
  for (int32_t rank = 0; rank < (cut ? ranks : 1); ++rank) {
    int64_t rows = 0;
    for (const SequenceStep& step : sequences) {
      const auto own = static_cast<int32_t>(step.tokens.size());
      rows += cut ? cp_early(own, {ranks, rank}).rows + cp_late(own, {ranks, rank}).rows : own;
    }
    extent.rows = std::max(extent.rows, rows);
    extent.least_rows = rank == 0 ? rows : std::min(extent.least_rows, rows);
  }
  return extent;
}

Bucket bucket_of(const StepLimits& limits, std::span<const SequenceStep> sequences, int64_t rows) {
  const CpExtent extent = cp_extent(sequences, limits.cp_ranks);
  int64_t per_pad = limits.max_seq_len;
  for (int32_t g = 0; g < limits.num_groups; ++g) {
    const CacheGroup& group = limits.group(GroupId(g));
    if (group.kind == GroupKind::kPaged) per_pad = std::min<int64_t>(per_pad, group.page_tokens);
  }
  const auto logits_rows = std::count_if(sequences.begin(), sequences.end(),
                                         [](const SequenceStep& step) { return step.wants_logits; });
  return {.rows = PaddedRows(rows),
          .seqs = PaddedSeqs(extent.seqs + ceil_div(rows - extent.least_rows, per_pad)),
          .logits_rows = PaddedRows(logits_rows)};
}

}  // namespace lockstep
