// Poison: runs every launch again over inputs in which whatever must not enter was replaced, and outputs
// that were filled before, and compares. Live rows must be the same bit for bit (N1), every row of an output
// written and pads zero (L3), every other byte untouched (L4).
#pragma once

#include <string>

#include "base/fault.h"
#include "guard/launch_memory.h"

namespace lockstep {

// Thread: one owner, that of the stream. Cost per launch: two more runs, and about ten copies of what it
// reads and writes.
class Poison {
 public:
  // Keeps what the launch is about to touch.
  void before(const StepView& step, const LaunchRecord& launch);
  // Runs the launch twice more and leaves everything as its first run left it.
  // Errors: kInternal, with a fault of moment kPoison that names the launch, the argument and the row.
  Status after(const StepView& step, const LaunchRecord& launch);

  // Bytes that were looked at in the last launch.
  int64_t bytes() const { return static_cast<int64_t>(memory_.saved.bytes()); }

 private:
  struct Difference {
    const Run* run = nullptr;
    int64_t offset = 0;  // bytes from the beginning of the run, of an element
  };
  void spoil(int round);  // of spoiled_
  Status check_round(const StepView& step, const LaunchRecord& launch, int round);
  Status check_run(const StepView& step, const LaunchRecord& launch, const Run& run, int round);
  Status check_workspace(const StepView& step, const LaunchRecord& launch);
  Status untouched(const StepView& step, const LaunchRecord& launch, const Snapshot& then,
                   const Snapshot& now) const;
  struct Report {
    const char* check = "";
    std::string field;
    int64_t row = -1;
    std::string expected;
    std::string found;
  };
  static Status name(const StepView& step, const LaunchRecord& launch, Report report);

  LaunchMemory memory_;
  Snapshot before_;     // the launch
  Snapshot after_;      // as the launch left it
  Snapshot spoiled_;    // before a rerun
  Snapshot reruns_[2];  // after each rerun
};

}  // namespace lockstep
