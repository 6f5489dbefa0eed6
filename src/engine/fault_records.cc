#include "engine/fault_records.h"

namespace lockstep {
namespace {

RecorderOptions recorder_options(const Model& model, const Executor& executor) {
  RecorderOptions options;
  if (executor.options().mesh != nullptr) options.rank.rank = executor.options().mesh->rank();
  options.rank.model = model.name;
  options.rank.device = "cpu";
  options.rank.guard = name_of(executor.options().guard);
  options.rank.limits = executor.options().limits;
  for (const LayerSpec& layer : model.spec.layers)
    options.rank.mixers.push_back(layer.mixer == Mixer::kSoftmax ? LayerKind::kSoftmax
                                                                 : LayerKind::kGatedDelta);
  options.image = executor.memory_map().handle(executor.runner().image().bytes().data);
  return options;
}

}  // namespace

FaultRecords::FaultRecords(const Model& model, Executor& executor, std::string folder)
    : model_(model),
      executor_(executor),
      folder_(std::move(folder)),
      recorder_(std::make_unique<FlightRecorder>(recorder_options(model, executor))) {
  executor_.runner().set_recorder(recorder_.get());
  if (Mesh* mesh = executor_.options().mesh) {
    mesh->ledger().set_sink(
        [](void* self, const CollectiveEntry& entry) {
          static_cast<FlightRecorder*>(self)->collective({.sequence = entry.sequence,
                                                          .epoch = entry.epoch,
                                                          .op = entry.op.data(),
                                                          .group = entry.group.data(),
                                                          .dtype = name_of(entry.dtype).data(),
                                                          .count = entry.count});
        },
        recorder_.get());
  }
}

FaultRecords::~FaultRecords() {
  if (Mesh* mesh = executor_.options().mesh) mesh->ledger().set_sink(nullptr, nullptr);
}

void FaultRecords::end(const StepResult& result) {
  FlightRecorder::Ended ended{.tokens = result.tokens, .non_finite = result.non_finite};
  const StepReport& report = executor_.runner().report();
  if (executor_.runner().level() != GuardLevel::kPlan) {
    ended.head_epoch = report.head_epoch();
    ended.head = report.head_digests();
    ended.tail = report.tail_digest();
  }
  recorder_->end(ended);
}

Result<std::string> FaultRecords::write(const Status& fault, std::span<const RerunSequence> sequences,
                                        const StepPlan& plan) {
  if (written_ >= kMaxFiles) {
    return error(Code::kResourceExhausted, "record: ", written_,
                 " faults of this engine are on file; the rest are not");
  }
  ++written_;
  Record record = recorder_->snapshot();
  FaultEntry entry{.fault = fault.fault() != nullptr ? *fault.fault() : Fault{}, .message = fault.message()};
  if (entry.fault.step == 0) entry.fault.step = plan.scalar(field::epoch).get();
  record.faults.push_back(std::move(entry));
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
         .options = executor_.options(),
         .sequences = sequences,
         .bucket = plan.bucket(),
         .step = plan.scalar(field::epoch).get()},
        record);
  return write_record(record, folder_);
}

Result<std::string> FaultRecords::request() const { return write_record(recorder_->snapshot(), folder_); }

}  // namespace lockstep
