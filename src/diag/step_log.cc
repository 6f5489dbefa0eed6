#include "diag/step_log.h"

#include <array>
#include <cstdio>
#include <ostream>

#include "base/status.h"

namespace lockstep {

std::string step_line(const StepFacts& facts) {
  std::string line = concat("step ", facts.epoch, ": rows ", facts.num_rows, "/", facts.num_rows_padded,
                            " (decode ", facts.decode_seqs, ", prefill ", facts.prefill_seqs, "), pages ",
                            facts.pages_used, "/", facts.pages_total, facts.graph ? ", graph" : ", eager");
  int64_t total_ns = 0;
  for (const StepPhase& phase : facts.phases) {
    total_ns += phase.ns;
    line += concat(", ", phase.name, " ", (phase.ns + 500) / 1000, " us");
  }
  if (facts.bytes > 0 && total_ns > 0) {
    std::array<char, 32> rate{};  // bytes per nanosecond are GB/s
    std::snprintf(rate.data(), rate.size(), ", %.1f GB/s",
                  static_cast<double>(facts.bytes) / static_cast<double>(total_ns));
    line += rate.data();
  }
  return line;
}

void StepLog::write(const StepFacts& facts) const {
  if (out_ != nullptr) *out_ << step_line(facts) << '\n' << std::flush;
}

}  // namespace lockstep
