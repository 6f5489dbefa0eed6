// The first debugger: one line per step. Off unless it was given somewhere to write; free when off.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <span>
#include <string>
#include <string_view>

#include "base/units.h"

namespace lockstep {

// How long one phase of a step took: "plan", "refresh", "run", "sample".
struct StepPhase {
  std::string_view name;
  int64_t ns = 0;
};

struct StepFacts {
  Epoch epoch{};
  LiveRows num_rows{};
  PaddedRows num_rows_padded{};
  int32_t decode_seqs = 0;   // sequences with one row that are past their prompt
  int32_t prefill_seqs = 0;  // all others
  PageCount pages_used{};
  PageCount pages_total{};
  bool graph = false;  // replayed; otherwise eager
  int64_t bytes = 0;   // that the step had to move: weights, keys, values, states; 0: not known
  std::span<const StepPhase> phases{};
};

// "step 17: rows 8/8 (decode 8, prefill 0), pages 12/4096, graph, plan 12 us, run 903 us, 31.2 GB/s"
// The rate is bytes over the sum of the phases.
std::string step_line(const StepFacts& facts);

// Thread: one owner. Cost when off: one comparison.
class StepLog {
 public:
  explicit StepLog(std::ostream* out = nullptr) : out_(out) {}
  bool on() const { return out_ != nullptr; }
  void write(const StepFacts& facts) const;

 private:
  std::ostream* out_;
};

}  // namespace lockstep
