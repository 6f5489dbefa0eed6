// Ranks that share the rows of prompts, as threads, each with an executor of its own; who plans is the test.
#pragma once

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "comm/mesh.h"
#include "plan/plan_builder.h"
#include "plan/validate.h"
#include "runtime/executor.h"

namespace lockstep::testing {

// A sequence that is fed in steps: its prompt, then what it draws.
struct Fed {
  std::vector<TokenId> tokens;
  int32_t prompt_len = 0;
  int32_t computed = 0;
  int32_t rows = 0;  // of the step at hand
  SamplingFacts sampling;
  PenaltySlot penalty = PenaltySlot(-1);
};

class ContextRanks {
 public:
  static constexpr int32_t kSequences = 8;
  static constexpr int32_t kLongest = 512;

  // `ranks` of one: the run that the others are compared with.
  ContextRanks(const Model& model, int32_t ranks, GuardLevel guard = GuardLevel::kReplay);
  ~ContextRanks();

  void add(std::vector<TokenId> prompt, const SamplingFacts& sampling = {});
  // The next `rows[s]` tokens of each sequence, as far as it has them; sequences that have all theirs
  // computed draw one more. The first error of any rank, or of the plans.
  Status step(const std::vector<int32_t>& rows);

  // Gives a rank the last plan of another.
  Status run_as(size_t rank, size_t other) { return executors_[rank]->run(plans_[other], results_[rank]); }

  bool shared() const { return plans_[0].scalar(field::cp_ranks) > 1; }  // whether the last step was cut
  const std::vector<Fed>& sequences() const { return sequences_; }
  // Of the last step, on one rank: logits [logits rows, V] and what was drawn.
  std::vector<float> logits(size_t rank) const;
  const StepResult& result(size_t rank) const { return results_[rank]; }
  // Keys, compressed ones too, values and states of all sequences, as a rank holds them.
  std::vector<float> caches(size_t rank) const;

 private:
  template <typename Call>
  void on_ranks(Call call);
  StepLimits limits_for(int32_t ranks) const;
  void create(int32_t ranks, GuardLevel guard);
  Status plan();
  int32_t pages_each() const { return kLongest / page_tokens_; }
  void read_compressed(const CacheStorage& storage, std::vector<float>& all) const;

  const Model& model_;
  int32_t page_tokens_;  // blocks of sparse layers take pages of whole blocks
  StepLimits limits_;
  PageTables tables_;
  PlanBuilder builder_;
  std::vector<PlanValidator> validators_;
  std::vector<std::unique_ptr<Mesh>> meshes_;
  std::vector<std::unique_ptr<Executor>> executors_;
  std::vector<StepPlan> plans_;
  std::vector<StepResult> results_;
  std::vector<Fed> sequences_;
  uint64_t epoch_ = 0;
};

}  // namespace lockstep::testing
