// Probe: counts the numbers that are not finite before and after every launch, by whose rows they are in, and
// keeps the first launch whose outputs are bad together with the state of its inputs.
#pragma once

#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "guard/record.h"
#include "guard/step_view.h"

namespace lockstep {

// What the launches of a layer belong to: its mixer, and behind the norm after it its mlp.
struct LayerKinds {
  LayerKind mixer = LayerKind::kOther;
  LayerKind mlp = LayerKind::kOther;
};

// Counts over the entries of one operand that have one kind of owner.
struct ProbeCounts {
  int64_t nan = 0;
  int64_t inf = 0;
  int64_t elements = 0;
  int64_t row_count = 0;      // entries with a number that is not finite
  std::vector<int32_t> rows;  // the first kFindingRows of them
  std::vector<int32_t> sequences;
  float max_abs = 0;  // of the finite ones

  bool clean() const { return nan == 0 && inf == 0; }
};

using CountsByOwner = std::array<ProbeCounts, kOwners>;
// Counts over an operand of floats. Cost: one pass over its memory.
CountsByOwner count(const TensorView& view, std::span<const OwnedEntry> owners);

// Thread: one owner, that of the stream.
class Probe {
 public:
  static constexpr size_t kMaxFindings = 256;

  Probe(std::vector<LayerKinds> layers, int32_t rank) : layers_(std::move(layers)), rank_(rank) {}

  // `sequence_ids` of the live sequences, in the plan's order; empty: findings count them from 0.
  void begin_step(const StepView& step, std::span<const uint64_t> sequence_ids);
  void before(const StepView& step, const LaunchRecord& launch);
  void after(const StepView& step, const LaunchRecord& launch);

  // Since clear(). One finding per phase, layer, stage, argument, side and owner: phases and layers are never
  // mixed, and what comes again is not told again.
  const std::vector<Finding>& findings() const { return findings_; }
  const std::optional<FirstBadLaunch>& first_bad_launch() const { return first_; }
  // Every launch of the newest step; of the step of the first bad launch once there is one.
  const std::vector<LaunchEntry>& launches() const { return launches_; }
  void clear();

 private:
  struct Counted {
    const OpArg* arg = nullptr;
    CountsByOwner by_owner;
    bool clean() const;
  };
  std::vector<Counted> look(const StepView& step, const LaunchRecord& launch, bool outputs) const;
  LaunchPlace place_of(const StepView& step, const LaunchRecord& launch);
  LayerKind kind_of(const LaunchRecord& launch);
  void keep(const StepView& step, const Counted& counted, const LaunchPlace& at, Side side);
  FirstBadLaunch first_bad(const LaunchPlace& at) const;
  std::span<const OwnedEntry> gathered(int64_t rows) const;

  std::vector<LayerKinds> layers_;
  int32_t rank_ = 0;
  std::vector<uint64_t> sequence_ids_;
  int32_t order_ = 0;                         // of the next launch within its step
  int32_t layer_ = -1;                        // of the launch before
  bool in_mlp_ = false;                       // behind the second norm of layer_
  bool seen_any_ = false;                     // a launch of any layer in this step
  std::vector<Counted> inputs_;               // of the launch that runs
  mutable std::vector<OwnedEntry> gathered_;  // as many as were ever needed, all the same
  std::vector<Finding> findings_;
  std::set<std::string> told_;
  std::optional<FirstBadLaunch> first_;
  std::vector<LaunchEntry> launches_;
};

}  // namespace lockstep
