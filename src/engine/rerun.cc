#include "engine/rerun.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/math.h"
#include "plan/plan_builder.h"
#include "plan/validate.h"

namespace lockstep {
namespace {

// Other kernels round otherwise; what a fault does is larger than this share of the largest logit.
constexpr double kAgreement = 0.05;

StepLimits scratch_limits(const RerunRequest& request) {
  StepLimits limits = request.options.limits;
  const auto sequences = static_cast<int32_t>(request.sequences.size());
  const int32_t page_tokens = limits.group(kKvGroup).page_tokens;
  int32_t wanted = 1;
  for (const RerunSequence& s : request.sequences) wanted += ceil_div(s.computed + s.rows, page_tokens);
  if (limits.num_groups > kStateGroup.get()) {
    limits.groups[static_cast<size_t>(kStateGroup.get())].num_pages = sequences + 1;
    wanted = std::max(wanted, sequences + 1);  // a shared pool has as many pages as states
  }
  for (CacheGroup& group : std::span(limits.groups).first(static_cast<size_t>(limits.num_groups))) {
    if (group.kind != GroupKind::kPaged) continue;
    group.num_pages = std::max(wanted, 2);
    group.table_rows = sequences + 1;
  }
  limits.max_edits = std::max(limits.max_edits, wanted + sequences + 1);
  limits.penalty_slots = 0;
  return limits;
}

// Sequences have pages of the same numbers in every paged group.
std::vector<PageTables*> tables_of(const StepLimits& limits, PageTables& pages) {
  std::vector<PageTables*> tables;
  for (int32_t g = 0; g < limits.num_groups; ++g)
    tables.push_back(limits.group(GroupId(g)).kind == GroupKind::kPaged ? &pages : nullptr);
  return tables;
}

// An executor of its own, with the sequences' caches filled up to the step.
class Scratch {
 public:
  Scratch(const RerunRequest& request, const StepLimits& limits)
      : request_(request),
        limits_(limits),
        tables_(limits.group(kKvGroup).table_rows, limits.group(kKvGroup).max_pages_per_seq),
        builder_(limits, tables_of(limits, tables_)),
        validator_(limits) {}

  Status start(ExecutorOptions options) {
    options.limits = limits_;
    executor_ = LS_TRY(Executor::create(request_.model, options));
    executor_->watch(options.guard == GuardLevel::kFull);
    int32_t next = 1;
    const int32_t page_tokens = limits_.group(kKvGroup).page_tokens;
    for (size_t i = 0; i < request_.sequences.size(); ++i) {
      const RerunSequence& s = request_.sequences[i];
      for (int32_t page = 0; page < ceil_div(s.computed + s.rows, page_tokens); ++page)
        tables_.append(TableRow(static_cast<int32_t>(i) + 1), PageId(next++));
    }
    return {};
  }

  // Everything before the step, one chunk of one sequence at a time.
  Status catch_up() {
    for (size_t i = 0; i < request_.sequences.size(); ++i) {
      for (int32_t done = 0; done < request_.sequences[i].computed;) {
        const int32_t rows = std::min(request_.sequences[i].computed - done, limits_.max_rows);
        const SequenceStep step = share(i, done, rows, false);
        LS_TRY(
            run({&step, 1}, {.rows = PaddedRows(rows), .seqs = PaddedSeqs(1), .logits_rows = PaddedRows(1)}));
        done += rows;
      }
    }
    return {};
  }

  // The step itself, in the bucket that it had.
  Status repeat() {
    std::vector<SequenceStep> steps;
    std::vector<uint64_t> ids;
    for (size_t i = 0; i < request_.sequences.size(); ++i) {
      const RerunSequence& s = request_.sequences[i];
      steps.push_back(share(i, s.computed, s.rows, s.wants_logits));
      ids.push_back(s.id);
    }
    executor_->name_sequences(ids);
    return run(steps, request_.bucket);
  }

  std::vector<float> logits() const {
    const auto rows = static_cast<int64_t>(result_.tokens.size());
    std::vector<std::byte> copy;
    const TensorView view = HostView(executor_->stream()).look(executor_->logits(rows), copy);
    return {view.as<float>(), view.as<float>() + view.elements()};
  }
  Guard* guard() { return executor_->guard(); }

 private:
  SequenceStep share(size_t i, int32_t from, int32_t rows, bool wants_logits) const {
    const RerunSequence& s = request_.sequences[i];
    SequenceStep step{.tokens = s.tokens.subspan(static_cast<size_t>(from), static_cast<size_t>(rows)),
                      .last_token_source = TokenSource::literal(),
                      .computed = TokenCount(from),
                      .prompt_len = TokenCount(s.prompt_len),
                      .wants_logits = wants_logits,
                      .sampling = {}};
    step.table_rows.fill(TableRow(static_cast<int32_t>(i) + 1));
    if (limits_.num_groups > kStateGroup.get()) step.state_slot = StateSlot(static_cast<int32_t>(i) + 1);
    return step;
  }

  Status run(std::span<const SequenceStep> steps, const Bucket& bucket) {
    epoch_ = Epoch(epoch_.get() + 1);
    LS_TRY(builder_.build({.epoch = epoch_, .source_epoch = Epoch(0), .sequences = steps, .bucket = bucket},
                          plan_));
    LS_TRY(validator_.validate(plan_));
    builder_.accepted();
    return executor_->run(plan_, result_);
  }

  const RerunRequest& request_;
  StepLimits limits_;
  PageTables tables_;
  PlanBuilder builder_;
  PlanValidator validator_;
  std::unique_ptr<Executor> executor_;
  StepPlan plan_;
  StepResult result_;
  Epoch epoch_;
};

bool finite(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

struct Agreement {
  Verdict verdict = Verdict::kNotRecorded;
  double difference = 0;
};

// The same step by other kernels or with other inputs.
Agreement compare_with(const RerunRequest& request, const StepLimits& limits, const ExecutorOptions& options,
                       const std::vector<float>& logits, std::vector<std::string>& notes) {
  Scratch other(request, limits);
  Status status = other.start(options);
  if (status.ok()) status = other.catch_up();
  if (status.ok()) status = other.repeat();
  if (!status.ok()) {
    notes.push_back(status.message());
    return {};
  }
  const std::vector<float> theirs = other.logits();
  Agreement agreement{.verdict = Verdict::kYes};
  double largest = 0;
  for (size_t i = 0; i < std::min(logits.size(), theirs.size()); ++i) {
    if (!std::isfinite(theirs[i])) continue;
    largest = std::max(largest, std::abs(double{theirs[i]}));
    if (std::isfinite(logits[i]))
      agreement.difference = std::max(agreement.difference, std::abs(double{logits[i]} - theirs[i]));
  }
  const bool same = finite(logits) == finite(theirs) && agreement.difference <= kAgreement * largest;
  if (!same) agreement.verdict = Verdict::kNo;
  return agreement;
}

// The same step by the reference kernels. They run on the CPU: a device's weights are loaded for them anew.
Agreement compare_with_oracle(const RerunRequest& request, const StepLimits& limits,
                              const std::vector<float>& logits, std::vector<std::string>& notes) {
  ExecutorOptions options = request.options;
  options.guard = GuardLevel::kPlan;
  options.isa = Isa::kReference;
  if (options.device == nullptr) return compare_with(request, limits, options, logits, notes);
  int64_t bytes = 0;
  for (const WeightBytes& part : request.model.parts) bytes += part.bytes;
  if (bytes > kMaxOracleBytes) {
    notes.push_back(concat(bytes, " bytes of weights were not loaded for the CPU's kernels; the most is ",
                           kMaxOracleBytes));
    return {};
  }
  ModelOptions source = request.source;
  source.device = options.device = nullptr;
  source.threads = options.threads = detect_cpu().cpus;
  const Result<std::unique_ptr<Model>> model = load_model(source);
  if (!model.ok()) {
    notes.push_back(model.status().message());
    return {};
  }
  return compare_with({.model = **model,
                       .source = source,
                       .options = options,
                       .sequences = request.sequences,
                       .bucket = request.bucket,
                       .step = request.step,
                       .rank = request.rank},
                      limits, options, logits, notes);
}

// What the probe found, labelled; steps of the scratch run that came before the step stand as step 0.
bool take_findings(Guard& guard, const RerunRequest& request, bool before, Record& record) {
  const auto label = [&](auto& entry) {
    entry.at.rank = request.rank;
    entry.at.step = before ? 0 : request.step;
    entry.source = Seen::kRerun;
  };
  bool clean = true;
  for (Finding finding : guard.probe().findings()) {
    label(finding);
    clean = clean && finding.owner != Owner::kLive;
    record.findings.push_back(std::move(finding));
  }
  if (!before) {
    for (LaunchEntry launch : guard.probe().launches()) {
      label(launch);
      record.launches.push_back(std::move(launch));
    }
  }
  if (record.first_bad_launch.empty() && guard.probe().first_bad_launch()) {
    FirstBadLaunch first = *guard.probe().first_bad_launch();
    label(first);
    record.first_bad_launch.push_back(std::move(first));
  }
  guard.probe().clear();
  return clean;
}

void watch(const RerunRequest& request, const StepLimits& limits, RerunEntry& entry, Record& record) {
  ExecutorOptions options = request.options;
  options.guard = GuardLevel::kFull;
  Scratch scratch(request, limits);
  Status status = scratch.start(options);
  if (status.ok()) status = scratch.catch_up();
  if (scratch.guard() == nullptr) {
    entry.notes.push_back(status.message());
    return;
  }
  const bool clean = take_findings(*scratch.guard(), request, true, record) && status.ok();
  entry.cache_clean = clean ? Verdict::kYes : Verdict::kNo;
  if (request.model.spec.recurrent_layers() > 0) entry.state_clean = entry.cache_clean;
  if (status.ok()) status = scratch.repeat();
  const bool found_nothing = take_findings(*scratch.guard(), request, false, record);
  entry.reproduced = status.ok() && found_nothing ? Verdict::kNo : Verdict::kYes;
  if (!status.ok()) {
    entry.notes.push_back(status.message());
    return;
  }
  const std::vector<float> logits = scratch.logits();
  if (logits.empty()) {
    entry.notes.push_back("the step draws no token, so there are no logits to compare");
    return;
  }
  const Agreement oracle = compare_with_oracle(request, limits, logits, entry.notes);
  entry.oracle_agrees = oracle.verdict;
  entry.oracle_difference = oracle.difference;
  options = request.options;
  options.guard = GuardLevel::kPlan;
  options.input = MatmulInput::kF32;
  const Agreement f32 = compare_with(request, limits, options, logits, entry.notes);
  entry.f32_agrees = f32.verdict;
  entry.f32_difference = f32.difference;
}

}  // namespace

void rerun(const RerunRequest& request, Record& record) {
  RerunEntry entry{.rank = request.rank, .step = request.step};
  int64_t tokens = 0;
  for (const RerunSequence& s : request.sequences) tokens += s.computed + s.rows;
  if (tokens > kMaxRerunTokens || request.sequences.empty()) {
    entry.notes.push_back(concat(tokens, " tokens were not run again; the most is ", kMaxRerunTokens));
  } else {
    watch(request, scratch_limits(request), entry, record);
  }
  record.rerun.push_back(std::move(entry));
}

}  // namespace lockstep
