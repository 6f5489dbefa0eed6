// PlanBuilder: from a list of sequences to a StepPlan. Padding happens here, once, on the list; every field
// is derived from the padded list afterwards, so no field has a tail of its own.
#pragma once

#include <span>
#include <vector>

#include "base/status.h"
#include "plan/cp_cut.h"
#include "plan/page_tables.h"
#include "plan/step_plan.h"

namespace lockstep {

// How the next token of a sequence is to be drawn.
struct SamplingFacts {
  float temperature = 0.0f;  // 0: greedy
  int32_t top_k = 0;         // 0: off
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  uint64_t seed = 0;
  int32_t logprobs = -1;   // how many of the best to report; -1: none
  int32_t mask_slot = -1;  // -1: every token is allowed
};

// One sequence's share of a step.
struct SequenceStep {
  std::span<const TokenId> tokens;  // one per row
  TokenSource last_token_source;    // of the last row; literal unless the device still holds the token
  TokenCount computed;              // tokens whose keys, values and states are cached
  TokenCount prompt_len;            // tokens the request came with
  std::array<TableRow, kMaxGroups> table_rows{};  // per paged group
  StateSlot state_slot;                           // owned alone; 0 where the model has no recurrent layers
  PenaltySlot penalty_slot = PenaltySlot(-1);
  bool wants_logits = false;  // of its last row
  SamplingFacts sampling;
};
inline int32_t rows_of(const SequenceStep& step) { return static_cast<int32_t>(step.tokens.size()); }

struct StepRequest {
  Epoch epoch;
  Epoch
      source_epoch;  // the step whose sampled tokens the sources name; not read where every token is literal
  std::span<const SequenceStep> sequences;
  Bucket bucket;  // of one rank
  std::array<std::span<const PageCopy>, kMaxGroups> copies{};
  CpCut cut;  // which rank's share of the rows; all ranks build from the same request but for this
};

// Thread: one owner. Cost: O(rows + edits), no allocation once warm.
class PlanBuilder {
 public:
  // `tables[g]` is the table of paged group g (null for state groups), borrowed for the builder's life.
  // Precondition: check_limits(limits).
  PlanBuilder(const StepLimits& limits, std::vector<PageTables*> tables);

  // Builds, with the tables' pending edits in the plan. They stay pending until the plan is accepted, so that
  // a plan which is refused takes none with it.
  // Errors: kInternal, naming what does not fit: a request that the limits, the bucket or the page tables
  //         cannot hold is a bug of whoever scheduled it. The plan is as it was then.
  Status build(const StepRequest& request, StepPlan& plan);
  // The plan that was built last is valid and will run: its edits are no longer pending. Before any page is
  // appended to the tables again.
  void accepted();

 private:
  // A member of the padded list: a sequence or the part of it that the rank runs, a pad sequence, or an empty
  // one.
  struct Member {
    const SequenceStep* step = nullptr;  // null: pad
    RowCount rows;
    TokenCount computed;  // before its first row
    int32_t first = 0;    // of the step's tokens
  };
  // The totals of the live members.
  struct Totals {
    int64_t rows = 0;
    bool one_row_each = true;
  };
  // A row of a rank.
  struct Place {
    int32_t rank = 0;
    int32_t row = 0;
  };
  // Rows of a rank up to where a walk over the sequences stands.
  struct Counted {
    int32_t early = 0;
    int32_t late = 0;
  };
  Place last_row(const StepPlan& plan, const StepRequest& request, size_t s);
  Status check_bucket(const StepRequest& request) const;
  Status check_sequence(const StepRequest& request, size_t s) const;
  Status check_lists(const StepRequest& request) const;
  std::span<const TableEdit> pending_edits(GroupId group) const;
  int32_t rows_per_pad(const Bucket& bucket, const Totals& totals, int64_t free_seqs) const;
  void list_members(const StepRequest& request);
  Status pad(const StepRequest& request);
  void derive_rows(StepPlan& plan) const;
  void derive_slots(GroupId group, StepPlan& plan) const;
  void derive_sequences(StepPlan& plan) const;
  void derive_tables(GroupId group, StepPlan& plan) const;
  void derive_logits_rows(const StepRequest& request, StepPlan& plan);
  void derive_gathered_slots(const StepRequest& request, GroupId group, StepPlan& plan) const;
  void derive_scalars(const StepRequest& request, StepPlan& plan) const;
  void derive_lists(const StepRequest& request, StepPlan& plan) const;

  StepLimits limits_;
  std::vector<PageTables*> tables_;
  std::vector<Member> members_;   // the padded list of the step being built
  CpCut cut_;                     // of the step being built; one rank where each runs all rows
  std::vector<Counted> counted_;  // [ranks]
};

}  // namespace lockstep
