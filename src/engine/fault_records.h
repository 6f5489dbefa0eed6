// FaultRecords: the flight recorder of an engine, and the files that it leaves: on a fault, on request, on a
// signal.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "engine/record_file.h"
#include "engine/rerun.h"
#include "guard/flight_recorder.h"

namespace lockstep {

// Thread: one owner, the engine's; request() from any thread.
class FaultRecords {
 public:
  // Files go to `folder`. Borrows model and executor, and listens to the ledger of its mesh.
  FaultRecords(const Model& model, Executor& executor, std::string folder);

  ~FaultRecords();

  FlightRecorder& recorder() { return *recorder_; }
  // What came back from a step, and what the device said of it.
  void end(const StepResult& result);

  // Writes what happened, with a rerun of the sequences; the first kMaxFiles faults of an engine only, since
  // one fault tends to bring many. Gives the path. Errors: as write_record(); kResourceExhausted past that.
  Result<std::string> write(const Status& fault, std::span<const RerunSequence> sequences,
                            const StepPlan& plan);
  // The last steps. From any thread.
  Record snapshot() const { return recorder_->snapshot(); }
  // Writes the last steps as they are, without a fault. May be called while the engine is stuck in a step.
  Result<std::string> request() const;

 private:
  static constexpr int kMaxFiles = 4;

  const Model& model_;
  Executor& executor_;
  std::string folder_;
  std::unique_ptr<FlightRecorder> recorder_;
  int written_ = 0;
};

}  // namespace lockstep
