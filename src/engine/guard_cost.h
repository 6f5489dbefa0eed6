// What a guard level costs: one engine, decode steps that alternate between two levels one by one, so that
// whatever else the machine does falls on both alike.
#pragma once

#include "diag/progress.h"
#include "engine/engine.h"

namespace lockstep {

struct LevelRatio {
  GuardLevel of = GuardLevel::kReplay;
  GuardLevel to = GuardLevel::kPlan;
  int32_t batch = 0;
  int64_t steps = 0;  // of both levels together
  double of_us = 0;   // medians of a whole step of the engine
  double to_us = 0;
  double ratio = 0;  // of_us / to_us
  double low = 0;    // its 95% interval, by resampling pairs of neighbouring steps
  double high = 0;
};

// Tokens that a sequence should have room for, so that most steps are replayed decode steps.
inline constexpr int32_t kGuardCostRoom = 256;

struct GuardCostOptions {
  int32_t batch = 1;
  int64_t steps = 4000;
  int32_t longest = kGuardCostRoom;  // tokens of a sequence; then it begins anew
  uint64_t seed = 0;
  ProgressOptions progress;
};

// Random prompts of 8 tokens, greedy draws; only replayed decode steps of all sequences count. The level is
// what it was afterwards. Errors: as Engine::add; kInternal when a step fails or nothing is replayed.
Result<LevelRatio> guard_cost(Engine& engine, const GuardCostOptions& options);

}  // namespace lockstep
