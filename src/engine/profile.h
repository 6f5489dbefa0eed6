// Profile: where the time of steps goes, by op and stage. It watches launches through the stream's observer;
// on a device it takes the device's time, and what a graph would replay is launched one by one.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/cost_model.h"
#include "runtime/executor.h"

namespace lockstep {

// One op at one place of the model, per step: medians over the recorded steps.
struct ProfileLine {
  std::string op;     // "linear"; "host" for time outside launches
  std::string stage;  // "qkv_proj"
  int64_t calls = 0;
  double us = 0;     // of all its calls in one step
  double bytes = 0;  // by the cost model; 0: it knows nothing of this op
  double flop = 0;
  double roof_us = 0;
};

// Thread: the engine's. While it lives, the stream's observer is its own.
class Profiler {
 public:
  explicit Profiler(Executor& executor);
  ~Profiler();
  Profiler(const Profiler&) = delete;
  Profiler& operator=(const Profiler&) = delete;

  void begin_step();
  // Keeps what was seen since begin_step, in a step of `step_ns`. Without this call it is forgotten.
  void keep_step(int64_t step_ns);
  // Forgets all steps.
  void clear();

  // Longest first; what the mean step should cost beside it.
  std::vector<ProfileLine> lines(std::span<const OpCost> costs, const Roofs& roofs) const;

 private:
  struct Entry {
    std::string_view op;
    std::string_view stage;
    int64_t calls = 0;
    int64_t ns = 0;                                    // in this step
    std::vector<int64_t> steps{};                      // ns of each step kept
    std::vector<std::pair<int64_t, int64_t>> ticks{};  // of a device, in this step
  };
  static void before(void* self, const LaunchRecord& launch);
  static void after(void* self, const LaunchRecord& launch);
  int64_t moment();
  void read_ticks();
  Entry& entry_of(std::string_view op, std::string_view stage);

  Executor& executor_;
  DeviceQueue* queue_;  // null: launches are over when they return
  int64_t launched_ = 0;
  std::vector<Entry> entries_;
};

}  // namespace lockstep
