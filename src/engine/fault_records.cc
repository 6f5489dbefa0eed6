#include "engine/fault_records.h"

namespace lockstep {
namespace {

// "dp 0 of 2, tp 1 of 2", with the degrees that there are.
std::string place_text(const Mesh& mesh) {
  std::string text;
  const auto add = [&text](std::string_view what, int32_t index, int32_t degree) {
    if (degree > 1) text += concat(text.empty() ? "" : ", ", what, " ", index, " of ", degree);
  };
  add("dp", mesh.place().dp, mesh.shape().dp);
  add("cp", mesh.place().cp, mesh.shape().cp);
  add("tp", mesh.place().tp, mesh.shape().tp);
  return text;
}

RecorderOptions recorder_options(const Model& model, const Executor& executor) {
  RecorderOptions options;
  if (executor.options().mesh != nullptr) add_ranks(*executor.options().mesh, options.rank);
  options.rank.model = model.name;
  const Device* device = executor.options().device.get();
  options.rank.device = device != nullptr ? device->description() : "cpu";
  options.rank.guard = name_of(executor.options().guard);
  options.rank.limits = executor.options().limits;
  for (const LayerSpec& layer : model.spec.layers) options.rank.mixers.push_back(layer_kind(layer.mixer));
  options.image = executor.memory_map().handle(executor.runner().image().bytes().data);
  return options;
}

}  // namespace

void add_ranks(Mesh& mesh, RankEntry& rank) {
  rank.rank = mesh.rank();
  rank.place = place_text(mesh);
  for (const Communicator* group :
       {&mesh.world(), &mesh.tp(), &mesh.cp(), &mesh.dp(), &mesh.experts(), &mesh.replica()}) {
    if (group->size() == 1) continue;
    rank.groups.push_back(
        {.name = std::string(group->name()), .ranks = {group->members().begin(), group->members().end()}});
  }
}

void add_ledger(const Mesh& mesh, Record& record) {
  for (const CollectiveEntry& entry : mesh.ledger().last(Ledger::kEntries)) {
    record.ledger.push_back({.rank = mesh.rank(),
                             .sequence = entry.sequence,
                             .epoch = entry.epoch,
                             .op = std::string(entry.op),
                             .group = std::string(entry.group),
                             .number = entry.number,
                             .dtype = std::string(name_of(entry.dtype)),
                             .count = entry.count,
                             .where = describe(entry.at.stage, entry.at.layer),
                             .finished = entry.finished});
  }
}

FaultRecords::FaultRecords(const Model& model, Executor& executor, ModelOptions source, std::string folder)
    : model_(model),
      executor_(executor),
      source_(std::move(source)),
      folder_(std::move(folder)),
      recorder_(std::make_unique<FlightRecorder>(recorder_options(model, executor))) {
  executor_.runner().set_recorder(recorder_.get());
}

Record FaultRecords::snapshot() const {
  Record record = recorder_->snapshot();
  if (const Mesh* mesh = executor_.options().mesh) add_ledger(*mesh, record);
  return record;
}

void FaultRecords::end(const StepResult& result) {
  FlightRecorder::Ended ended{
      .epoch = result.epoch.get(), .tokens = result.tokens, .non_finite = result.non_finite};
  const StepReport& report = executor_.runner().report();
  if (executor_.runner().last().level != GuardLevel::kPlan) {
    ended.head_epoch = report.head_epoch();
    ended.head = report.head_digests();
    ended.tail = report.tail_digest();
  }
  recorder_->end(ended);
}

Record FaultRecords::record_of(const Failure& failure, uint64_t step) const {
  Record record = snapshot();
  const Fault* fault = failure.status.fault();
  const int32_t rank = record.ranks.front().rank;
  FaultEntry entry{.fault = fault != nullptr ? *fault : Fault{.rank = failure.told ? -1 : rank},
                   .message = failure.status.message(),
                   .on_rank = rank,
                   .told = failure.told};
  if (entry.fault.step == 0) entry.fault.step = step;
  record.faults.push_back(std::move(entry));
  return record;
}

Result<std::string> FaultRecords::write(const Failure& failure, uint64_t step,
                                        std::span<const RerunSequence> sequences, const StepPlan& plan) {
  if (written_ >= kMaxFiles) {
    return error(Code::kResourceExhausted, "record: ", written_,
                 " faults of this engine are on file; the rest are not");
  }
  ++written_;
  Record record = record_of(failure, step);
  if (const Guard* guard = executor_.guard()) {
    const Probe& probe = guard->probe();
    record.findings = probe.findings();
    record.launches = probe.launches();
    if (probe.first_bad_launch()) record.first_bad_launch.push_back(*probe.first_bad_launch());
  }
  // Ranks that share a model would have to run it again together, and something has just come between them.
  const Mesh* mesh = executor_.options().mesh;
  if (mesh != nullptr && mesh->shape().world() > 1) return write_record(record, folder_);
  rerun({.model = model_,
         .source = source_,
         .options = executor_.options(),
         .sequences = sequences,
         .bucket = plan.bucket(),
         .step = step},
        record);
  return write_record(record, folder_);
}

Result<std::string> FaultRecords::write_stuck(const Status& fault) const {
  const Mesh* mesh = executor_.options().mesh;
  const int32_t rank = mesh != nullptr ? mesh->rank() : 0;
  const bool told = fault.fault() == nullptr || fault.fault()->rank != rank;
  const uint64_t step = mesh != nullptr ? mesh->ledger().epoch() : 0;
  return write_record(record_of({.status = fault, .told = told}, step), folder_);
}

}  // namespace lockstep
