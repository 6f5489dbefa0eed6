#include "plan/limits.h"

#include <limits>

#include "plan/step_plan.h"

namespace lockstep {
namespace {

constexpr int64_t kMaxInt = std::numeric_limits<int32_t>::max();

Status check_group(const StepLimits& limits, int32_t g) {
  const CacheGroup& group = limits.groups[static_cast<size_t>(g)];
  if (group.num_pages < 2) {
    return error(Code::kInvalidArgument, "limits: group ", g, " has ", group.num_pages,
                 " pages; expected at least 2, the reserved one included");
  }
  if (group.kind == GroupKind::kState) return {};
  if (group.page_tokens < 1 || group.kernel_page_tokens < 1 ||
      group.page_tokens % group.kernel_page_tokens != 0) {
    return error(Code::kInvalidArgument, "limits: group ", g, " has pages of ", group.page_tokens,
                 " tokens and kernel pages of ", group.kernel_page_tokens,
                 "; expected a positive size and a divisor of it");
  }
  if (int64_t{group.max_pages_per_seq} * group.page_tokens < limits.max_seq_len) {
    return error(Code::kInvalidArgument, "limits: group ", g, " has ", group.max_pages_per_seq, " pages of ",
                 group.page_tokens,
                 " tokens per sequence; expected room for max_seq_len = ", limits.max_seq_len);
  }
  if (group.table_rows < 2 || int64_t{group.table_rows} * group.max_pages_per_seq > kMaxInt) {
    return error(Code::kInvalidArgument, "limits: group ", g, " has a page table of ", group.table_rows,
                 " rows of ", group.max_pages_per_seq, " entries; expected at least 2 rows and at most ",
                 kMaxInt, " entries; lower max_seqs or max_seq_len");
  }
  if (limits.max_edits < 1) {
    return error(Code::kInvalidArgument, "limits: max_edits is ", limits.max_edits,
                 "; expected at least 1: the first plan carries the pad row of group ", g);
  }
  return {};
}

}  // namespace

Status check_limits(const StepLimits& limits) {
  struct Least {
    const char* name;
    int32_t value;
    int32_t least;
  };
  for (const Least& each :
       {Least{"max_rows", limits.max_rows, 1}, Least{"max_seqs", limits.max_seqs, 1},
        Least{"max_logits_rows", limits.max_logits_rows, 0}, Least{"max_seq_len", limits.max_seq_len, 1},
        Least{"max_edits", limits.max_edits, 0}, Least{"max_copies", limits.max_copies, 0},
        Least{"vocab_size", limits.vocab_size, 1}, Least{"penalty_slots", limits.penalty_slots, 0},
        Least{"mask_slots", limits.mask_slots, 0}, Least{"dp_ranks", limits.dp_ranks, 1},
        Least{"cp_ranks", limits.cp_ranks, 1}, Least{"num_groups", limits.num_groups, 0}}) {
    if (each.value < each.least) {
      return error(Code::kInvalidArgument, "limits: ", each.name, " is ", each.value, "; expected at least ",
                   each.least);
    }
  }
  if (limits.num_groups > kMaxGroups) {
    return error(Code::kInvalidArgument, "limits: num_groups is ", limits.num_groups, "; expected at most ",
                 kMaxGroups);
  }
  for (int32_t g = 0; g < limits.num_groups; ++g) LS_TRY(check_group(limits, g));
  const int64_t bytes = image_bytes(limits, {.rows = PaddedRows(limits.max_rows),
                                             .seqs = PaddedSeqs(limits.max_seqs),
                                             .logits_rows = PaddedRows(limits.max_logits_rows)});
  if (bytes > kMaxInt) {
    return error(Code::kInvalidArgument, "limits: a plan of ", limits.max_rows, " rows, ", limits.max_seqs,
                 " sequences, ", limits.max_logits_rows, " logits rows, ", limits.max_edits, " edits and ",
                 limits.max_copies, " copies takes ", bytes, " bytes; expected at most ", kMaxInt);
  }
  return {};
}

}  // namespace lockstep
