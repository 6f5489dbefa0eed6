// Graph proof: no graph serves before it has been proven. Each size is recorded under a minimal plan and
// recorded again under two others of the same key that differ in every live field: the launches must be the
// same. Then both others run eagerly and replayed: logits and tokens must be the same bit for bit.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "plan/plan_builder.h"
#include "plan/validate.h"
#include "runtime/executor.h"

namespace lockstep {

// Why a step of the proof runs without a graph, as the runner counts it.
inline constexpr std::string_view kGraphProof = "graph proof";

// How a graph size fared.
struct GraphOutcome {
  int32_t size = 0;
  Status status;  // ok: steps of this size are replayed. Else why they run eagerly
};

// Uses pages, table rows and state slots of an executor that serves nobody yet; leaves nothing that a later
// plan would read. Thread: one owner, the engine's.
class GraphProof {
 public:
  // `epoch` is the last one used so far. Borrows the executor.
  GraphProof(Executor& executor, Epoch epoch, uint64_t seed);

  // Captures and proves decode steps of `size` sequences. A difference drops the graph, so that these steps
  // run eagerly, and says which launch, argument, and consumer.
  GraphOutcome prove(int32_t size);

  // The same for steps in which nobody has anything to do, where replicas meet: rows are pads then.
  GraphOutcome prove_idle(int32_t size);

  Epoch epoch() const { return epoch_; }  // the last one used

 private:
  struct Member {
    TableRow row;
    int32_t pages = 0;  // entries of its row; the last one is its own
    PageId own;
  };
  struct Outcome {
    std::vector<float> logits;
    StepResult result;
  };
  Status set_up();
  Status fill_source();
  Status push_edits(int32_t room);
  Status build(int32_t size, std::span<const int32_t> members, bool ragged, StepPlan& plan);
  Status run(const StepPlan& plan, Outcome& outcome);
  Status prove_size(int32_t size);
  Status prove_idle_size(int32_t size);
  Status take_idle(int32_t size, StepPlan& plan);
  Status prove_pair(int32_t size, std::span<const int32_t> members);
  Status take(StepPlan& plan, const StepRequest& request);
  Status compare(const StepPlan& plan, const Outcome& eager, const Outcome& replayed) const;
  int32_t pick(int32_t low, int32_t high);

  Executor& executor_;
  const StepLimits& limits_;
  Epoch epoch_;
  uint64_t state_;  // of the random numbers
  bool begun_ = false;
  Status set_up_;  // how it went: what it has left on the device cannot be begun again
  PageTables tables_;
  PlanBuilder builder_;
  PlanValidator validator_;
  std::vector<Member> members_;
  PageId source_page_ = PageId(1);  // filled by a prefill; own pages begin as copies of it
  StateSlot source_state_;
  std::vector<TokenId> tokens_;
};

}  // namespace lockstep
