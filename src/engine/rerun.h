// Rerun: after a fault, the sequences of the step run once more from their tokens, in scratch pages and
// states of their own, watched at the level `full`; then by the reference kernels of the CPU and with f32
// inputs. What that says goes into the record, labelled as what it is.
#pragma once

#include <span>
#include <vector>

#include "guard/record.h"
#include "runtime/executor.h"

namespace lockstep {

// A sequence as the step met it.
struct RerunSequence {
  uint64_t id = 0;
  std::span<const TokenId> tokens;  // those cached, then those of the step's rows
  int32_t prompt_len = 0;
  int32_t computed = 0;
  int32_t rows = 0;
  bool wants_logits = false;
};

struct RerunRequest {
  const Model& model;
  const ModelOptions& source;      // of the model
  const ExecutorOptions& options;  // of the executor that met the fault
  std::span<const RerunSequence> sequences;
  Bucket bucket;  // of the step
  uint64_t step = 0;
  int32_t rank = 0;
};

// Longer work than this is not rerun; the entry says so.
inline constexpr int64_t kMaxRerunTokens = 8192;
// Weights of a device that are more than this are not loaded a second time for the CPU; the entry says so.
inline constexpr int64_t kMaxOracleBytes = int64_t{4} << 30;

// Adds one RerunEntry, and the findings of the watched run, to `record`.
// Cost: a prefill of all the sequences' tokens, poisoned launch by launch, and two more without.
void rerun(const RerunRequest& request, Record& record);

}  // namespace lockstep
