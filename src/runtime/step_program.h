// StepProgram: what the launches of a step are. The runner asks it twice: what every step needs to know, and
// the launches themselves, which a graph keeps and a replay repeats.
#pragma once

#include "contract/binder.h"
#include "contract/prepared_step.h"
#include "kernels/common/launcher.h"

namespace lockstep {

class StepProgram {
 public:
  virtual ~StepProgram() = default;
  // Pure: reads the plan through the binder and adds what enqueue() needs to `step`.
  virtual Status prepare(const Binder& binder, PreparedStep& step) const = 0;
  // Enqueues the launches that `step` was prepared for, and nothing else.
  virtual Status enqueue(const PreparedStep& step, const Launcher& on) const = 0;
};

}  // namespace lockstep
