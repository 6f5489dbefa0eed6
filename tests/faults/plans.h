// What the entries about plans begin with: a small engine's brain that makes right plans, step by step. An
// entry then derives some of the fields anew, by the method that went wrong in the field.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "plan/page_tables.h"
#include "plan/plan_builder.h"
#include "plan/validate.h"

namespace lockstep::faults {

inline constexpr GroupId kKv(0), kStates(1), kWindow(2);
inline constexpr int32_t kPageTokens = 16;  // of both paged groups

// Steps of up to 2048 rows and 128 sequences; three groups, as above.
StepLimits small_limits();

inline Bucket bucket(int32_t rows, int32_t seqs, int32_t logits_rows) {
  return {.rows = PaddedRows(rows), .seqs = PaddedSeqs(seqs), .logits_rows = PaddedRows(logits_rows)};
}

// One sequence's rows in a step. Sequence i lives in table row i + 1 and state slot i + 1.
struct Share {
  int32_t sequence = 0;
  int32_t rows = 0;
};

struct StepOptions {
  std::optional<Bucket> bucket;  // none: no padding
  std::vector<PageCopy> state_copies{};
};

// Thread: one owner.
class Plans {
 public:
  explicit Plans(const StepLimits& limits = small_limits());
  Plans(const Plans&) = delete;

  const StepLimits& limits() const { return limits_; }
  int32_t length(int32_t sequence) const { return lengths_[static_cast<size_t>(sequence)]; }
  // The right plan of the next step, in which each share's rows follow what its sequence has. Every share
  // draws a token.
  StepPlan next(std::span<const Share> shares, const StepOptions& options = {});
  StepPlan next(std::initializer_list<Share> shares, const StepOptions& options = {}) {
    return next(std::span(shares.begin(), shares.size()), options);
  }
  // Freezes and validates; when the plan is valid its step has run and its sequences have grown.
  Status run(StepPlan& plan);
  // Runs right plans. Precondition: they are right.
  void run_right(std::initializer_list<Share> shares, const StepOptions& options = {});
  // The sequence has `tokens` from now on: those after were rejected drafts, or those before came with a
  // cached prefix.
  void set_length(int32_t sequence, int32_t tokens);
  // The sequence gives its pages back and begins anew.
  void restart(int32_t sequence);

 private:
  StepLimits limits_;
  PageTables kv_, window_;
  PlanBuilder builder_;
  PlanValidator validator_;
  std::vector<TokenId> tokens_;
  std::vector<int32_t> lengths_;
  std::vector<Share> shares_;  // of the plan that was made last
  int32_t last_page_ = 0;
  uint64_t epoch_ = 0;
};

// What an engine makes that pads its buffers and leaves the sequence list as it is: the plan laid out for a
// larger bucket, with every tail filled on its own. Offsets repeat the last one, the rest takes the field's
// pad value; counts of live things stay.
StepPlan with_tails(const StepPlan& plan, const StepLimits& limits, const Bucket& larger);

}  // namespace lockstep::faults
