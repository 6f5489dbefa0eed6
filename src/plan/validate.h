// Validation: holds a plan to every rule stated about it, with code of its own. It shares nothing with the
// builder and keeps its own copy of the page tables, made from the edits alone, as a device does.
// docs/checks.md lists the rules.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/fault.h"
#include "plan/step_plan.h"
#include "plan/validate/fixed_text.h"
#include "plan/validate/stamps.h"
#include "plan/validate/table_mirror.h"

namespace lockstep {

// The first rule that a plan breaks, and where.
struct Violation {
  std::string_view check;  // "P1" to "P11", or "GEO" for geometry and sampling facts
  FieldId field = FieldId::token_ids;
  int32_t index = 0;  // row, sequence, logits row or entry, as the field's form says; 0 for scalars
  GroupId group;
  FixedText expected;
  FixedText found;
};

// "plan 17: P1 query_start_loc[4] is 26, so rows 26..29 belong to no sequence; expected num_rows = 30"
std::string describe(const Violation& violation, Epoch epoch);

// The same in parts, for records and tables.
Fault fault_of(const Violation& violation, Epoch epoch);

// Plans come in the order of their epochs, from the first one of the engine on: later edits build on earlier.
// Thread: one owner. Cost: O(rows + sequences + edits); no allocation, unless validate() refuses.
class PlanValidator {
 public:
  // Precondition: check_limits(limits).
  explicit PlanValidator(const StepLimits& limits);

  // Null, or the first rule broken; it stands until the next call. A valid plan's edits are applied to the
  // validator's tables; a broken plan leaves them as they were.
  const Violation* check(const StepPlan& plan);
  // ok, or kInternal with describe(violation) and its fault_of().
  Status validate(const StepPlan& plan);

  // Begins in the middle, for plans that were recorded: the last plan before them, and the entries of each
  // page table as a device held it, row by row. A state's age is unknown until a plan writes it, and which
  // rows have ended is forgotten, so these rules catch less in the first plans.
  // Errors: kInvalidArgument for an entry that no valid plans could have made.
  struct Past {
    Epoch epoch;
    LiveRows logits_rows;
    std::array<std::span<const TableEdit>, kMaxGroups> tables;
  };
  Status resume(const Past& past);
  // Every state's age is unknown from now on: for plans that begin anywhere on purpose, as a graph's proof.
  void forget_states();

 private:
  struct Where {
    std::string_view check;
    FieldId field;
    int32_t index = 0;
    GroupId group{};
  };
  // Each holds a plan to some rules and refuses it at the first one broken. Later ones index with what
  // earlier ones have found to be in range.
  bool check_plan(const StepPlan& plan);
  bool check_shape(const StepPlan& plan);                  // P10
  bool check_layout(const StepPlan& plan);                 // P10
  bool check_counts(const StepPlan& plan);                 // P10
  bool check_epoch(const StepPlan& plan);                  // GEO
  bool check_starts(const StepPlan& plan);                 // P1
  bool check_pad_rows(const StepPlan& plan);               // P1
  bool check_tokens(const StepPlan& plan);                 // P1
  bool check_lengths(const StepPlan& plan);                // P2
  bool check_positions(const StepPlan& plan);              // P2
  bool check_prompts(const StepPlan& plan);                // P2
  bool check_longest(const StepPlan& plan);                // P2
  bool check_cut(const StepPlan& plan);                    // P9
  bool check_spans(const StepPlan& plan);                  // P9
  bool check_segments(const StepPlan& plan);               // P9
  bool check_chunk(const StepPlan& plan, int32_t s);       // P9
  bool check_geometry(const StepPlan& plan);               // GEO
  bool check_edits(const StepPlan& plan, GroupId group);   // P3
  bool check_tables(const StepPlan& plan, GroupId group);  // P3
  bool check_row(const StepPlan& plan, GroupId group, int32_t s);
  bool check_owners(const StepPlan& plan, GroupId group);  // P3
  bool check_owner(const StepPlan& plan, GroupId group, int32_t s, int32_t index);
  bool check_slots(const StepPlan& plan, GroupId group);           // P4
  bool check_gathered_slots(const StepPlan& plan, GroupId group);  // P4, P9
  bool check_gathered_rank(const StepPlan& plan, GroupId group, int32_t rank);
  bool check_copies(const StepPlan& plan, GroupId group);                     // GEO
  bool check_copied_page(const StepPlan& plan, GroupId group, int32_t copy);  // P3
  bool check_states(const StepPlan& plan);                                    // P5
  bool check_state_ages(const StepPlan& plan, GroupId group);                 // P5
  bool check_state_writes(const StepPlan& plan);                              // P5
  bool check_handed_on_states(const StepPlan& plan);                          // P5
  bool check_logits_rows(const StepPlan& plan);                               // GEO
  bool check_shared_logits_rows(const StepPlan& plan);                        // GEO
  bool check_logits_row(const StepPlan& plan, int32_t r, int32_t s);          // GEO
  bool check_sampling(const StepPlan& plan);                                  // GEO
  bool check_penalties(const StepPlan& plan);                                 // GEO
  bool check_pads(const StepPlan& plan);                                      // P11
  bool check_pad_entries(const StepPlan& plan, const FieldInfo& info, GroupId group);

  // Records the violation; false, so that a check can return it. True where the rule is switched off: the
  // check then passes over the plan.
  bool refuse(const Where& where, const FixedText& expected, const FixedText& found);
  // Whether the plan is one rank's share of the rows. Its sequences are halves then: the early chunks of all,
  // then the late ones.
  static bool cut(const StepPlan& plan) { return plan.scalar(field::cp_ranks) > 1; }
  static int32_t whole_sequences(const StepPlan& plan) {
    const int32_t sequences = plan.scalar(field::num_seqs).get();
    return cut(plan) ? sequences / 2 : sequences;
  }
  // The early chunk whose sequence s is the late one of; -1 where it is not.
  static int32_t early_half(const StepPlan& plan, int32_t s) {
    const int32_t whole = whole_sequences(plan);
    return cut(plan) && s >= whole && s < 2 * whole ? s - whole : -1;
  }
  // Tokens of a live sequence when the step is done, on all ranks together.
  static int32_t end_of(const StepPlan& plan, int32_t s) {
    const CpSegment& span = plan.get(field::cp_spans)[static_cast<size_t>(s)];
    return span.start.get() + span.length.get();
  }
  bool paged(GroupId group) const { return limits_.group(group).kind == GroupKind::kPaged; }
  // Takes over what a valid plan has said.
  void accept(const StepPlan& plan);
  void claim_pages(const StepPlan& plan, GroupId group);
  void age_states(const StepPlan& plan, GroupId group);
  int32_t state_age(const StepPlan& plan, GroupId group, StateSlot slot) const;
  int32_t reader_of(const StepPlan& plan, GroupId group, TableMirror::Entry entry) const;

  static constexpr int32_t kUnknownAge = -1;

  StepLimits limits_;
  Violation violation_;
  int32_t state_slots_ = 0;           // 0: no layer is recurrent
  int32_t rows_per_pad_ = 0;          // the most rows of a pad sequence
  Epoch last_epoch_;                  // of the last valid plan
  LiveRows last_logits_rows_;         // of the last valid plan
  std::vector<TableMirror> mirrors_;  // [groups]; empty for state groups
  // [groups][slots]: tokens after which a slot holds the state; 0: none yet; kUnknownAge. Empty for paged
  // groups.
  std::vector<std::vector<int32_t>> state_ages_;
  std::vector<Stamps> edited_,
      live_rows_;               // [groups], of table rows: edited in this plan; read by a sequence
  std::vector<Stamps> copied_;  // [groups], of pages and state slots: targets of copies
  Stamps read_states_, written_states_, penalties_;
  // Rows of a rank up to where a walk over the sequences stands.
  struct Passed {
    int32_t early = 0;
    int32_t late = 0;
  };
  std::vector<Passed> passed_;  // [context-parallel ranks]
};

}  // namespace lockstep
