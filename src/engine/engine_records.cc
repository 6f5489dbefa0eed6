// What an engine does with a step that failed: it tells the other ranks, and leaves a record.
#include "base/fault.h"
#include "engine/engine.h"

namespace lockstep {
namespace {

// The same failure, said by its rank. Between ranks (G1) the fault names a rank already.
Status said_by(int32_t rank, const Status& status) {
  if (status.fault() == nullptr) return status.with_message(concat("rank ", rank, ": ", status.message()));
  if (status.fault()->check == "G1") return status;
  Fault fault = *status.fault();
  fault.rank = rank;
  return {status.code(), concat("rank ", rank, ": ", status.message()),
          std::make_shared<const Fault>(std::move(fault))};
}

}  // namespace

// No rank can go on without the others. What they have closed their groups with comes back as the failure of
// whatever was waiting; anything else is this rank's own.
FaultRecords::Failure Engine::close_ranks(const Status& status) {
  if (config_.mesh == nullptr || config_.mesh->world().size() == 1) return {.status = status};
  others_work_ = false;  // there are no more steps with them
  const int32_t rank = config_.mesh->rank();
  const Status closed = config_.mesh->status();
  const bool heard = !closed.ok() && closed.message() == status.message();
  if (!heard) {
    const Status own = said_by(rank, status);
    config_.mesh->fail(own);
    return {.status = own, .told = own.fault() != nullptr && own.fault()->rank != rank};
  }
  return {.status = status, .told = status.fault() == nullptr || status.fault()->rank != rank};
}

std::vector<RerunSequence> Engine::rerun_sequences(const Batch& batch) {
  std::vector<RerunSequence> sequences;
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    if (batch.sequences[i] == nullptr) continue;
    const Sequence& sequence = *batch.sequences[i];
    const int32_t computed = batch.steps[i].computed.get();
    const auto rows = static_cast<int32_t>(batch.steps[i].tokens.size());
    sequences.push_back({.id = sequence.id,
                         .tokens = std::span(sequence.tokens).first(static_cast<size_t>(computed + rows)),
                         .prompt_len = sequence.prompt_len,
                         .computed = computed,
                         .rows = rows,
                         .wants_logits = batch.steps[i].wants_logits});
  }
  return sequences;
}

// Logits that are not finite end a sequence, and the ranks go on. What the others did in that step may say
// why, so they put it on record when they hear of it, with the next step.
std::string Engine::record_bad_logits(const Status& failure, const Batch& batch) {
  if (replica_ != nullptr) {
    on_record_ = epoch_.get();
    replica_->note({.step = on_record_, .rank = config_.mesh->rank()});
  }
  return put_on_record({.status = failure}, rerun_sequences(batch));
}

void Engine::record_with_others() {
  const NotedFault& noted = replica_->noted();
  if (noted.step <= on_record_) return;
  on_record_ = noted.step;
  Fault fault{.check = "N0",
              .moment = Moment::kCommit,
              .consumer = "sampler",
              .field = "logits",
              .rank = noted.rank,
              .step = noted.step,
              .expected = "finite numbers",
              .found = "NaN or infinite in places"};
  std::string message = concat("rank ", noted.rank, ": ", fault.message());
  // Whoever found it tells its user.
  put_on_record({.status = Status(Code::kInternal, std::move(message), std::make_shared<const Fault>(fault)),
                 .told = true},
                {});
}

// Before anything is freed. What to add to the message: where the record is. Once ranks are closed every step
// fails for the same reason.
std::string Engine::put_on_record(const FaultRecords::Failure& failure,
                                  const std::vector<RerunSequence>& sequences) {
  if (config_.record_dir.empty() || closed_) return "";
  closed_ = config_.mesh != nullptr && !config_.mesh->status().ok();
  const Result<std::string> path = records_->write(failure, epoch_.get(), sequences, plan());
  if (!path.ok()) return concat("; no record was written: ", path.status().message());
  return concat("; the record is ", *path, ", which lockstep explain reads");
}

}  // namespace lockstep
