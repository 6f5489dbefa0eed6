// Guard: watches every launch of a step at the level `full`. It hangs on the stream's observer slot, so no
// layer calls it: probes count what is not finite, poison runs each launch again over spoiled inputs.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "guard/poison.h"
#include "guard/probe.h"

namespace lockstep {

struct GuardOptions {
  StepLimits limits;
  std::vector<LayerKinds> layers;
  int32_t rank = 0;
  bool poison = true;  // false: probes and ids alone
  HostView memory{};   // that the launches work on
};

// Thread: one owner, that of the stream. Borrows the map.
class Guard {
 public:
  // `image` holds the plan on the device.
  Guard(const GuardOptions& options, const MemoryMap& map, const TensorView& image)
      : options_(options), map_(map), image_(image), probe_(options.layers, options.rank) {}
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

  // For Stream::set_observer. Launches outside of a step are not looked at.
  LaunchObserver observer();

  // A validated plan, before its launches; it stays as it is until end_step().
  void begin_step(const StepPlan& plan, std::span<const uint64_t> sequence_ids = {});
  // After its last launch. Errors: kInternal, with the first fault of the step: L1 or P6 (moment kLaunch),
  // N1, L3 or L4 (moment kPoison); as the device says when it failed. After a fault the rest of the step runs
  // unpoisoned.
  Status end_step();

  const Probe& probe() const { return probe_; }
  Probe& probe() { return probe_; }

 private:
  void before(const LaunchRecord& launch);
  void after(const LaunchRecord& launch);
  bool poisons(const LaunchRecord& launch) const;

  GuardOptions options_;
  const MemoryMap& map_;
  TensorView image_;
  Owners owners_;
  std::unique_ptr<StepView> step_;  // null: between steps
  Probe probe_;
  Poison poison_;
  Status status_;
};

}  // namespace lockstep
