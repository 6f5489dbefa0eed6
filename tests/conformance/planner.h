// Planner: a scheduler of few words. Cases say who has how many rows; it gives pages, table rows and state
// slots, builds the plan and has it validated.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "plan/page_tables.h"
#include "plan/plan_builder.h"
#include "plan/validate.h"

namespace lockstep::conformance {

// One sequence's rows in a step.
struct Share {
  int32_t sequence = 0;  // as begin() gave it
  int32_t rows = 0;
};

// Thread: one owner.
class Planner {
 public:
  explicit Planner(const StepLimits& limits);

  // A new sequence without tokens. Precondition: table rows and state slots are left.
  int32_t begin();
  // Its pages, table row and state slot may be given to others from now on.
  void end(int32_t sequence);
  int32_t length(int32_t sequence) const { return members_[static_cast<size_t>(sequence)].length; }
  StateSlot state_slot(int32_t sequence) const { return members_[static_cast<size_t>(sequence)].state; }
  std::span<const PageId> pages(int32_t sequence) const;  // of the first paged group

  // The step in which each share's rows follow what its sequence has; lengths grow by them.
  // Errors: as PlanBuilder::build and PlanValidator::validate.
  Status plan(std::span<const Share> shares, const Bucket& bucket, StepPlan& plan);

  const StepLimits& limits() const { return limits_; }

 private:
  struct Member {
    TableRow row;
    StateSlot state;
    int32_t length = 0;
    bool live = false;
  };
  SequenceStep step_of(const Share& share);
  void reserve_pages(Member& member, int32_t length);
  PageTables& table(GroupId group) const { return *tables_[static_cast<size_t>(group.get())]; }

  StepLimits limits_;
  GroupId paged_{-1};                                // the first one; -1: none
  GroupId states_{-1};                               // -1: none
  std::vector<std::unique_ptr<PageTables>> tables_;  // by group; null for states
  PlanBuilder builder_;
  PlanValidator validator_;
  std::vector<Member> members_;
  std::vector<PageId> free_pages_;
  std::vector<TableRow> free_rows_;
  std::vector<StateSlot> free_states_;
  std::vector<TokenId> tokens_;
  Epoch epoch_;
};

}  // namespace lockstep::conformance
