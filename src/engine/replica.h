// Replica: what the ranks that share one scheduler tell each other around a step, and what replicas that meet
// in the experts agree on before anybody plans.
#pragma once

#include <span>
#include <vector>

#include "comm/mesh.h"
#include "contract/agreement.h"
#include "plan/step_plan.h"

namespace lockstep {

// What a replica brings to the agreement on a step's shape.
struct OwnShape {
  int32_t rows = 0;       // of its batch, unpadded
  bool has_work = false;  // requests that have not ended
  bool decode = false;    // one row of each sequence, each with logits; so is a batch without rows
};

// What all of them do then.
struct AgreedShape {
  int32_t rows = 0;       // the most that one has
  bool has_work = false;  // somebody has
  bool decode = false;    // everybody decodes or has nothing to do
};

// A fault that leaves the ranks running and belongs on every rank's record: of which step, found by whom.
struct NotedFault {
  uint64_t step = 0;  // 0: none
  int32_t rank = 0;
  int32_t unused = 0;
};

// Thread: one owner, the engine's. Borrows the mesh.
class Replica {
 public:
  // Precondition: check_limits(limits), the same on all ranks. `meets`: the layers of replicas meet in
  // collectives, so their steps are one step.
  Replica(Mesh& mesh, const StepLimits& limits, bool meets);

  bool leads() const { return mesh_.leads(); }
  bool alone() const { return mesh_.replica().size() == 1; }
  bool meets() const { return meets_; }
  const Mesh& mesh() const { return mesh_; }

  // Between the leaders of replicas that meet; every leader calls it in every step, with work or without.
  // Errors: as Communicator.
  Result<AgreedShape> agree_on_shape(const OwnShape& own);

  // The newest such fault that this rank has noted or heard of: it goes along with whatever leaders agree on,
  // and with what they send.
  const NotedFault& noted() const { return noted_; }
  void note(const NotedFault& fault) {
    if (fault.step > noted_.step) noted_ = fault;
  }

  // From the leader to the others: valid plans with the ids of their sequences, or that there is no more. One
  // plan is everybody's; else there is one for each context-parallel rank, all of one bucket.
  // Errors: as Communicator.
  Status send(std::span<const StepPlan> plans, std::span<const uint64_t> ids);
  Status send_end();
  // The other side: this rank's plan. False: the leader has ended. Errors: as Communicator; kInternal with a
  // fault (G1) for a plan that arrived otherwise than it was sent.
  Result<bool> receive(StepPlan& plan, std::vector<uint64_t>& ids);

  // G1, on every rank, before the first collective of a step. `graph_key`: digest of the key of the graph
  // that will be replayed, 0 when the step runs eagerly; `sampled`: of the tokens of the step before.
  // Errors: kInternal with a fault (G1) and the table of who said what, the same on every rank.
  struct Said {
    Digest config = 0;
    Digest graph_key = 0;
    Digest graph_shape = 0;  // the same without the phase, which a replica that has nothing to do has its own
    Digest sampled = 0;
  };
  Status agree(const StepPlan& plan, const Said& said);

 private:
  // In front of the plans' bytes; in front of each plan is its digest.
  struct Header {
    uint64_t epoch = 0;
    int64_t image_bytes = -1;  // of one plan; -1: the leader has ended
    int64_t ids = 0;
    PaddedRows rows;
    PaddedSeqs seqs;
    PaddedRows logits_rows;
    int32_t plans = 1;
    NotedFault noted{};
  };
  Status agree_in(Communicator& group, Communicator& witnesses, RankGroup kind, const RankFacts& facts);
  Status broadcast(int64_t bytes);

  Mesh& mesh_;
  StepLimits limits_;
  bool meets_;
  NotedFault noted_;
  std::vector<std::byte> envelope_;  // header, ids, images of the largest plans
};

// The least of what the ranks of a group bring. Errors: as Communicator.
Result<int64_t> least_of_ranks(Communicator& group, int64_t own);

}  // namespace lockstep
