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

// Where a rank stands among the others, and the newest collectives that it entered.
void add_ranks(Mesh& mesh, RankEntry& rank);
void add_ledger(const Mesh& mesh, Record& record);

// Thread: one owner, the engine's; request() from any thread.
class FaultRecords {
 public:
  // Files go to `folder`. Borrows model and executor, and so the mesh whose ledger it reads. `source` is what
  // the model was loaded from.
  FaultRecords(const Model& model, Executor& executor, ModelOptions source, std::string folder);

  FlightRecorder& recorder() { return *recorder_; }
  // What came back from a step, and what the device said of it.
  void end(const StepResult& result);

  // Why a step has no result.
  struct Failure {
    Status status;
    bool told = false;  // by another rank: nothing was wrong on this one
  };
  // Writes what happened, with a rerun of the sequences where no other rank would have to take part; the
  // first kMaxFiles faults of an engine only, since one fault tends to bring many. `plan` is that of the
  // sequences. Gives the path. Errors: as write_record(); kResourceExhausted past that.
  Result<std::string> write(const Failure& failure, uint64_t step, std::span<const RerunSequence> sequences,
                            const StepPlan& plan);
  // The last steps, and the last collectives. From any thread.
  Record snapshot() const;
  // Writes the last steps as they are: without a fault, or with one that somebody else has found, while the
  // engine is stuck in a step. From any thread.
  Result<std::string> request() const { return write_record(snapshot(), folder_); }
  Result<std::string> write_stuck(const Status& fault) const;

 private:
  static constexpr int kMaxFiles = 4;
  Record record_of(const Failure& failure, uint64_t step) const;

  const Model& model_;
  Executor& executor_;
  ModelOptions source_;
  std::string folder_;
  std::unique_ptr<FlightRecorder> recorder_;
  int written_ = 0;
};

}  // namespace lockstep
