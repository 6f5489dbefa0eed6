// StartUp: what an engine takes until it serves, phase by phase.
#pragma once

#include <string_view>
#include <vector>

#include "base/clock.h"

namespace lockstep {

struct StartUpPhase {
  std::string_view name;  // static storage
  double seconds = 0;
};

// Thread: one owner. Cost: a look at the clock per phase.
class StartUp {
 public:
  // Ends the phase that began when the last one ended, the first with this object.
  void end(std::string_view phase) {
    const int64_t now = now_ns();
    phases_.push_back({phase, static_cast<double>(now - since_) * 1e-9});
    since_ = now;
  }
  const std::vector<StartUpPhase>& phases() const { return phases_; }

 private:
  int64_t since_ = now_ns();
  std::vector<StartUpPhase> phases_;
};

}  // namespace lockstep
