#include "conformance/planner.h"

#include "base/check.h"
#include "base/math.h"

namespace lockstep::conformance {
namespace {

std::vector<std::unique_ptr<PageTables>> tables_for(const StepLimits& limits) {
  std::vector<std::unique_ptr<PageTables>> tables;
  for (int32_t g = 0; g < limits.num_groups; ++g) {
    const CacheGroup& group = limits.group(GroupId(g));
    const bool paged = group.kind == GroupKind::kPaged;
    tables.push_back(paged ? std::make_unique<PageTables>(group.table_rows, group.max_pages_per_seq)
                           : nullptr);
  }
  return tables;
}

std::vector<PageTables*> addresses(const std::vector<std::unique_ptr<PageTables>>& tables) {
  std::vector<PageTables*> all;
  for (const auto& each : tables) all.push_back(each.get());
  return all;
}

template <typename Id>
Id take(std::vector<Id>& free) {
  LS_CHECK(!free.empty(), "a case asks for more than its limits hold");
  const Id id = free.back();
  free.pop_back();
  return id;
}

}  // namespace

// Ids are handed out so that neighbours in a sequence are no neighbours in memory.
Planner::Planner(const StepLimits& limits)
    : limits_(limits),
      tables_(tables_for(limits)),
      builder_(limits, addresses(tables_)),
      validator_(limits),
      tokens_(static_cast<size_t>(limits.max_rows), TokenId(0)) {
  for (int32_t g = 0; g < limits.num_groups; ++g) {
    const CacheGroup& group = limits.group(GroupId(g));
    if (group.kind == GroupKind::kState) {
      states_ = GroupId(g);
      for (int32_t slot = 1; slot < group.num_pages; ++slot) free_states_.emplace_back(slot);
      continue;
    }
    if (paged_.get() >= 0) continue;  // pages of other groups go with those of the first
    paged_ = GroupId(g);
    for (int32_t page = 1; page < group.num_pages; page += 2) free_pages_.emplace_back(page);
    for (int32_t page = 2; page < group.num_pages; page += 2) free_pages_.emplace_back(page);
    for (int32_t row = 1; row < group.table_rows; ++row) free_rows_.emplace_back(row);
  }
}

int32_t Planner::begin() {
  Member member{.row = TableRow(0), .state = StateSlot(0), .live = true};
  if (paged_.get() >= 0) member.row = take(free_rows_);
  if (states_.get() >= 0) member.state = take(free_states_);
  members_.push_back(member);
  return static_cast<int32_t>(members_.size()) - 1;
}

void Planner::end(int32_t sequence) {
  Member& member = members_[static_cast<size_t>(sequence)];
  LS_CHECK(member.live, "sequence ", sequence, " ends twice");
  if (paged_.get() >= 0) {
    for (const PageId page : table(paged_).pages(member.row)) free_pages_.insert(free_pages_.begin(), page);
    for (const auto& each : tables_) {
      if (each != nullptr) each->clear(member.row);
    }
    free_rows_.insert(free_rows_.begin(), member.row);
  }
  if (states_.get() >= 0) free_states_.insert(free_states_.begin(), member.state);
  member.live = false;
}

std::span<const PageId> Planner::pages(int32_t sequence) const {
  return table(paged_).pages(members_[static_cast<size_t>(sequence)].row);
}

void Planner::reserve_pages(Member& member, int32_t length) {
  const int32_t page_tokens = limits_.group(paged_).page_tokens;
  const int32_t needed = ceil_div(length, page_tokens);
  for (auto held = static_cast<int32_t>(table(paged_).pages(member.row).size()); held < needed; ++held) {
    const PageId page = take(free_pages_);
    for (int32_t g = 0; g < limits_.num_groups; ++g) {
      if (tables_[static_cast<size_t>(g)] == nullptr) continue;
      // In another group the page has another number.
      const PageId own = g == paged_.get() ? page : PageId(limits_.group(paged_).num_pages - page.get());
      table(GroupId(g)).append(member.row, own);
    }
  }
}

SequenceStep Planner::step_of(const Share& share) {
  Member& member = members_[static_cast<size_t>(share.sequence)];
  if (paged_.get() >= 0) reserve_pages(member, member.length + share.rows);
  SequenceStep step{.tokens = {tokens_.data(), static_cast<size_t>(share.rows)},
                    .last_token_source = TokenSource::literal(),
                    .computed = TokenCount(member.length),
                    .prompt_len = TokenCount(1),
                    .state_slot = member.state,
                    .sampling = {}};
  for (int32_t g = 0; g < limits_.num_groups; ++g) {
    if (tables_[static_cast<size_t>(g)] != nullptr) step.table_rows[static_cast<size_t>(g)] = member.row;
  }
  return step;
}

Status Planner::plan(std::span<const Share> shares, const Bucket& bucket, StepPlan& plan) {
  std::vector<SequenceStep> steps;
  for (const Share& share : shares) steps.push_back(step_of(share));
  epoch_ = Epoch(epoch_.get() + 1);
  LS_TRY(builder_.build({.epoch = epoch_, .source_epoch = Epoch(0), .sequences = steps, .bucket = bucket},
                        plan));
  LS_TRY(validator_.validate(plan));
  builder_.accepted();
  for (const Share& share : shares) members_[static_cast<size_t>(share.sequence)].length += share.rows;
  return {};
}

}  // namespace lockstep::conformance
