// Steps that overlap: while the device runs one, the host plans the next and hands it over. What a plan needs
// of the step before it is known when that begins, but for its tokens, and those the device takes from where
// they were drawn.
#include "engine/engine.h"

namespace lockstep {
namespace {

// Why a step has to wait for the one before it.
constexpr std::string_view kPause = "nothing was under way";
constexpr std::string_view kScores = "the scores of given tokens are read from logits";
constexpr std::string_view kPreemption = "a sequence had to give its pages back";
constexpr std::string_view kLast = "the step before was the last of all its sequences";

}  // namespace

std::string reason_against_overlap(const EngineConfig& config, const DecoderSpec& spec) {
  const bool on_device = config.model.device != nullptr;
  if (config.overlap == Overlap::kNever) return "not asked for";
  if (config.overlap == Overlap::kOnDevices && !on_device) return "the CPU computes";
  if (config.mesh != nullptr && config.mesh->world().size() > 1) return "several ranks";
  if (config.guard == GuardLevel::kFull) return "guard level full";
  // They are read where the device has them, when the step has ended.
  if (spec.softmax.sparse.has_value()) return "derived fields are checked";
  return "";
}

std::vector<RequestOutput> Engine::step_overlapped() {
  const Batch* batch = nullptr;
  if (ahead_.batch != nullptr) {
    batch = &advance();
  } else {
    batch = &scheduler_->next(epoch_ = Epoch(epoch_.get() + 1));
    if (batch->empty()) return {};
    count_not_overlapped(not_ahead_.empty() ? kPause : not_ahead_);
    if (const Status status = begin(*batch, epoch_, plans_.front()); !status.ok())
      return fail(*batch, status);
  }
  const Status ahead = begin_ahead(*batch);
  std::vector<RequestOutput> outputs = end_step(*batch);
  if (!ahead.ok()) {
    const Batch& failed = advance();
    for (RequestOutput& output : fail(failed, ahead)) outputs.push_back(std::move(output));
  }
  drain();
  return outputs;
}

// Builds, validates and hands over a step, and has the scheduler go on as if it had ended.
Status Engine::begin(const Batch& batch, Epoch epoch, StepPlan& plan) {
  step_ids_.clear();
  for (const Sequence* sequence : batch.sequences) step_ids_.push_back(sequence->id);
  LS_TRY(builder_->build(
      {.epoch = epoch, .source_epoch = batch.source_epoch, .sequences = batch.steps, .bucket = batch.bucket},
      plan));
  const StepRunner::Beside beside = executor_->hold_beside(plan);
  LS_TRY(validate(plan));
  builder_->accepted();
  LS_TRY(executor_->start(plan));
  scheduler_->begun(batch, epoch);
  return {};
}

// Begins the step behind `now`, which is under way, unless that has to end first.
Status Engine::begin_ahead(const Batch& now) {
  not_ahead_ = {};
  for (const Sequence* sequence : now.sequences) {
    if (sequence != nullptr && !sequence->forced.empty()) not_ahead_ = kScores;
  }
  if (!not_ahead_.empty()) return {};
  const Epoch epoch(epoch_.get() + 1);
  const Batch* batch = scheduler_->next_ahead(epoch);
  if (batch == nullptr || batch->empty()) {
    not_ahead_ = batch == nullptr ? kPreemption : kLast;
    return {};
  }
  ahead_.batch = batch;
  LS_TRY(begin(*batch, epoch, ahead_.plan));
  ++stats_.overlapped;
  return {};
}

// The step that has begun ahead becomes the one at hand.
const Batch& Engine::advance() {
  std::swap(plans_.front(), ahead_.plan);
  epoch_ = Epoch(epoch_.get() + 1);
  return *std::exchange(ahead_.batch, nullptr);
}

std::vector<RequestOutput> Engine::end_step(const Batch& batch) {
  if (const Status status = executor_->finish(plan(), result_); !status.ok()) return fail(batch, status);
  records_->end(result_);
  scheduler_->ended(batch, result_);
  return collect(batch);
}

// Once nobody is left, the step ahead is nobody's: its rows were of sequences that have ended.
void Engine::drain() {
  if (ahead_.batch == nullptr || !live_.empty()) return;
  for (const SequenceStep& step : ahead_.batch->steps) stats_.dropped_rows += rows_of(step);
  ahead_.batch = nullptr;
  epoch_ = Epoch(epoch_.get() + 1);
  StepResult result;
  // Whatever is wrong with it, there is nobody to be told; a device that is lost says so again.
  if (executor_->finish(ahead_.plan, result).ok()) records_->end(result);
  scheduler_->step_ended(epoch_);
}

void Engine::count_not_overlapped(std::string_view reason) {
  auto found = stats_.not_overlapped.find(reason);
  if (found == stats_.not_overlapped.end())
    found = stats_.not_overlapped.emplace(std::string(reason), 0).first;
  ++found->second;
}

}  // namespace lockstep
