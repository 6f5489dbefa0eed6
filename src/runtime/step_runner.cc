#include "runtime/step_runner.h"

#include <cstring>
#include <utility>

#include "base/fault.h"
#include "contract/derived_check.h"
#include "contract/difference.h"
#include "plan/step_plan.h"

namespace lockstep {
namespace {

constexpr int32_t kStagingSlots = 4;  // a step's image, its derived fields, and those of the step before

int64_t largest_image(const StepLimits& limits) {
  const ImageLayout largest(limits, {.rows = PaddedRows(limits.max_rows),
                                     .seqs = PaddedSeqs(limits.max_seqs),
                                     .logits_rows = PaddedRows(limits.max_logits_rows)});
  return largest.bytes();
}

int64_t staging_bytes(const RunnerOptions& options) {
  int64_t bytes = std::max(largest_image(options.limits), StepReport::footprint());
  for (const DerivedSpec* spec : options.derived) bytes = std::max(bytes, 4 * spec->capacity(options.limits));
  return bytes;
}

constexpr std::string_view kPhases[] = {"idle steps", "decode steps of no captured size", "prefill steps",
                                        "mixed steps"};

}  // namespace

std::string_view name_of(GuardLevel level) {
  constexpr std::string_view kNames[] = {"plan", "replay", "full"};
  return kNames[static_cast<size_t>(level)];
}

GraphKey graph_key(const StepPlan& plan) {
  GraphKey key;
  size_t next = 0;
  for (const FieldInfo& info : kFields) {
    if (info.life != Life::kFrozen) continue;
    LS_CHECK(next < GraphKey::kFacts && info.element == Element::kI32, info.name);
    std::memcpy(&key.facts[next++], plan.image().data() + plan.layout().place(info.id).offset,
                sizeof(int32_t));
  }
  return key;
}

GraphKey GraphKey::without_phase() const {
  GraphKey key = *this;
  size_t next = 0;
  for (const FieldInfo& info : kFields) {
    if (info.life != Life::kFrozen) continue;
    if (info.id == FieldId::phase) key.facts[next] = 0;
    ++next;
  }
  return key;
}

Digest digest_of(const GraphKey& key) { return digest_bytes(key.facts.data(), sizeof(key.facts)); }

std::string describe(const GraphKey& key) {
  std::string text;
  size_t next = 0;
  for (const FieldInfo& info : kFields) {
    if (info.life != Life::kFrozen) continue;
    text += concat(text.empty() ? "" : ", ", info.name, " ", key.facts[next++]);
  }
  return text;
}

StepRunner::StepRunner(const RunnerOptions& options, Stream& stream, const MemoryMap& map, DeviceImage image,
                       int64_t bytes)
    : options_(options),
      stream_(stream),
      map_(map),
      image_(std::move(image)),
      staging_(kStagingSlots + static_cast<int32_t>(options.derived.size()), bytes, stream.device()) {}

int64_t StepRunner::footprint(const RunnerOptions& options) {
  return Arena::footprint(DType::kU8, {largest_image(options.limits)}) + StepReport::footprint() +
         DerivedFields::footprint(options.derived, options.limits);
}

Result<std::unique_ptr<StepRunner>> StepRunner::create(const RunnerOptions& options, Stream& stream,
                                                       const MemoryMap& map, Arena& arena) {
  DeviceImage image = LS_TRY(DeviceImage::create(options.limits, arena));
  std::unique_ptr<StepRunner> runner(
      new StepRunner(options, stream, map, std::move(image), staging_bytes(options)));
  runner->derived_ = LS_TRY(DerivedFields::create(options.derived, options.limits, arena));
  runner->report_ = LS_TRY(StepReport::create(options.limits, arena,
                                              {.device = stream.device(), .overlapped = options.overlapped}));
  return runner;
}

Status StepRunner::prepare(const StepPlan& plan, const StepProgram& program,
                           std::span<const Binding> expected) {
  bindings_.begin(expected);
  prepared_.clear();
  const Binder binder(plan, image_, &bindings_, &derived_);
  LS_TRY(program.prepare(binder, prepared_));
  return options_.derived.empty() ? Status() : binder.check_host_made();
}

Status StepRunner::run(const StepPlan& plan, const StepProgram& program, const Launcher& on) {
  const bool reports = options_.level != GuardLevel::kPlan;
  const GraphKey key = graph_key(plan);
  const auto found = eager_.empty() ? graphs_.find(key) : graphs_.end();
  before_ = std::exchange(begun_, {.epoch = plan.scalar(field::epoch).get(),
                                   .run = {.level = options_.level, .replayed = found != graphs_.end()}});
  StepRun& own = begun_.run;
  if (!own.replayed) own.eager_reason = count_eager(eager_reason(plan, key));
  // Both go before what may end the step here: they take what another thread takes to hold it to its capture.
  LS_TRY(image_.refresh(plan, stream_, staging_));
  if (reports) LS_TRY(report_.head(plan, image_, staging_, on));
  // Most likely it is as captured, and that can be said meanwhile.
  const bool beside = own.replayed && hold_.plan == &plan;
  if (beside) tell_recorder(key, &found->second.captured, found->second.captured.bindings());
  const bool held = end_hold() && beside;
  if (beside && !held) tell_recorder(key, &found->second.captured, {});  // what it is bound to is not known
  // At level plan a replay trusts its graph, unless consumers derive something on the host.
  if (!held && (reports || !own.replayed || !options_.derived.empty())) {
    LS_TRY(prepare(plan, program,
                   own.replayed ? found->second.captured.bindings() : std::span<const Binding>()));
  }
  if (!held) tell_recorder(key, own.replayed ? &found->second.captured : nullptr, bindings_.all());
  if (own.replayed && reports && !held) {
    LS_TRY(hold_to_capture(plan, program, on, found->second));
  }
  if (!options_.derived.empty()) LS_TRY(derived_.refresh(stream_, staging_));
  if (own.replayed) {
    ++replays_;
    LS_TRY(stream_.replay(found->second.graph));
  } else {
    LS_TRY(program.enqueue(prepared_, on));
  }
  if (!reports) return report_.brings_along() ? report_.download(plan, stream_) : Status();
  LS_TRY(report_.tail(plan, options_.level == GuardLevel::kFull, on));
  return report_.download(plan, stream_);
}

// `captured`: of the graph that is replayed; null: the step runs eagerly.
void StepRunner::tell_recorder(const GraphKey& key, const CapturedStep* captured,
                               std::span<const Binding> bindings) {
  if (recorder_ == nullptr) return;
  const bool as_captured = captured != nullptr && bindings.data() == captured->bindings().data() &&
                           bindings.size() == captured->bindings().size();
  recorder_->prepared({.run = captured != nullptr ? RunKind::kReplayed : RunKind::kEager,
                       .reason = begun_.run.eager_reason,
                       .graph_key = digest_of(key),
                       .bindings = bindings,
                       .bindings_digest = as_captured ? captured->bindings_digest() : 0});
}

void StepRunner::Hold::run(const void* self, Worker worker) {
  auto& hold = *static_cast<Hold*>(const_cast<void*>(self));
  if (worker.index == 1) hold.held = hold.runner->hold(*hold.plan, *hold.program, *hold.entry);
}

StepRunner::Beside StepRunner::hold_beside(const StepPlan& plan, const StepProgram& program) {
  end_hold();
  const bool alone = stream_.threads() < 2 || options_.level == GuardLevel::kPlan || !eager_.empty();
  const auto found = alone ? graphs_.end() : graphs_.find(graph_key(plan));
  if (found != graphs_.end()) {
    hold_ = {.runner = this, .plan = &plan, .program = &program, .entry = &found->second};
    stream_.run_beside(Hold::run, &hold_);
  }
  return Beside(*this);
}

bool StepRunner::end_hold() {
  if (hold_.plan == nullptr) return false;
  stream_.wait_beside();
  hold_.plan = nullptr;
  return hold_.held;
}

// Whether the plan is as captured. If it is not, run() finds out again, and says why.
bool StepRunner::hold(const StepPlan& plan, const StepProgram& program, const Entry& entry) {
  return prepare(plan, program, entry.captured.bindings()).ok() && entry.graph.check_leases().ok() &&
         entry.captured.check(plan, prepared_, bindings_.all()).ok();
}

std::string_view StepRunner::eager_reason(const StepPlan& plan, const GraphKey& key) const {
  if (!eager_.empty()) return eager_;
  const auto refused = refused_.find(key);
  if (refused != refused_.end()) return refused->second;
  return kPhases[static_cast<size_t>(plan.scalar(field::phase))];
}

// What differs from the capture and is no field of the plan has a name once the launches are recorded anew.
Status StepRunner::hold_to_capture(const StepPlan& plan, const StepProgram& program, const Launcher& on,
                                   Entry& entry) {
  LS_TRY(entry.graph.check_leases());
  const Status same = entry.captured.check(plan, prepared_, bindings_.all());
  if (same.fault() == nullptr || same.fault()->field != CapturedStep::kUnnamed) return same;
  Graph again;
  LS_TRY(record_prepared(program, on, again));
  LS_TRY(launch_difference({.captured = entry.graph,
                            .again = again,
                            .map = map_,
                            .moment = Moment::kReplay,
                            .step = plan.scalar(field::epoch).get(),
                            .consumer = same.fault()->consumer}));
  return same;
}

std::string_view StepRunner::count_eager(std::string_view reason) {
  auto found = eager_steps_.find(reason);
  if (found == eager_steps_.end()) found = eager_steps_.emplace(std::string(reason), 0).first;
  ++found->second;
  return found->first;
}

Status StepRunner::finish(const StepPlan& plan, Event end) {
  last_ = begun_.epoch == plan.scalar(field::epoch).get() ? begun_.run : before_.run;
  stream_.wait(end);
  LS_TRY(stream_.check_copies());
  if (last_.level == GuardLevel::kPlan) return {};
  LS_TRY(report_.check(plan, image_));
  if (options_.derived.empty()) return {};
  LS_TRY(check_host_made_on_device(plan, derived_, HostView(stream_)));
  return check_derived_on_device(plan);
}

// What kernels derived, held to its rule on the bytes that the next kernels read.
Status StepRunner::check_derived_on_device(const StepPlan& plan) {
  const uint64_t epoch = plan.scalar(field::epoch).get();
  for (const DerivedFields::Entry& entry : derived_.entries()) {
    if (entry.spec->maker != DerivedMaker::kDevice || entry.stamp.epoch != epoch) continue;
    std::vector<std::byte> copy, copy_of;
    const auto values = [&](const DerivedFields::Entry& of, std::vector<std::byte>& into) {
      return std::span<const int32_t>(HostView(stream_).look(of.values, into).as<int32_t>(),
                                      static_cast<size_t>(of.stamp.entries));
    };
    DerivedCheck check{
        .consumer = "derived", .moment = Moment::kCommit, .values = values(entry, copy), .of = {}};
    if (entry.spec->of != nullptr) {
      if (const DerivedFields::Entry* of = derived_.find(*entry.spec->of)) check.of = values(*of, copy_of);
    }
    LS_TRY(check_derived(*entry.spec, options_.limits, plan, check));
  }
  return {};
}

Status StepRunner::record(const StepPlan& plan, const StepProgram& program, const Launcher& on,
                          Graph& graph) {
  LS_TRY(prepare(plan, program));
  return record_prepared(program, on, graph);
}

Status StepRunner::record_prepared(const StepProgram& program, const Launcher& on, Graph& graph) {
  LS_TRY(stream_.begin_capture(graph));
  const Status status = program.enqueue(prepared_, on);
  stream_.end_capture();
  return status;
}

Status StepRunner::capture(const StepPlan& plan, const StepProgram& program, const Launcher& on) {
  const GraphKey key = graph_key(plan);
  Graph graph;
  LS_TRY(record(plan, program, on, graph));
  if (const std::string reason = reason_against_capture(bindings_.all()); !reason.empty()) {
    refuse(key, reason);
    return error(Code::kUnimplemented, "graph of ", describe(key), ": ", reason,
                 "; expected it by address or as a bound, so these steps run without a graph");
  }
  LS_TRY(check_launches(graph, {.plan = plan, .image = image_, .map = map_, .bindings = bindings_.all()}));
  LS_TRY(check_derived_writes(graph, plan, derived_, bindings_.all()));
  LS_TRY(graph.lease(map_));
  LS_TRY(stream_.instantiate(graph));
  graphs_.insert_or_assign(key, Entry{std::move(graph), CapturedStep(plan, prepared_, bindings_.all())});
  return {};
}

void StepRunner::refuse(const GraphKey& key, std::string reason) {
  bindings_.begin();  // they may be the graph's
  graphs_.erase(key);
  refused_[key] = std::move(reason);
}

Status StepRunner::recapture(const StepPlan& plan, const StepProgram& program, const Launcher& on) {
  const auto found = graphs_.find(graph_key(plan));
  if (found == graphs_.end()) {
    return error(Code::kInternal, "graph of ", describe(graph_key(plan)),
                 ": never captured; expected a capture first");
  }
  Graph again;
  LS_TRY(record(plan, program, on, again));
  LS_TRY(launch_difference({.captured = found->second.graph,
                            .again = again,
                            .map = map_,
                            .moment = Moment::kCapture,
                            .step = plan.scalar(field::epoch).get(),
                            .consumer = {}}));
  return found->second.captured.check(plan, prepared_, bindings_.all());
}

}  // namespace lockstep
