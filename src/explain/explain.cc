#include "explain/explain.h"

#include <algorithm>
#include <set>

#include "explain/explain_context.h"

namespace lockstep {
namespace {

// Ranks step together, so epochs order them; within a step, launches do.
bool earlier(const LaunchPlace& a, const LaunchPlace& b) {
  return std::tie(a.step, a.order, a.rank) < std::tie(b.step, b.order, b.rank);
}

const Finding* first_finding(const Record& record, std::optional<uint64_t> step) {
  const Finding* first = nullptr;
  for (const Finding& finding : record.findings) {
    if (step && finding.at.step != *step) continue;
    const bool before = first == nullptr || earlier(finding.at, first->at);
    const bool output = first != nullptr && same_launch(finding.at, first->at) &&
                        first->side == Side::kInput && finding.side == Side::kOutput;
    if (before || output) first = &finding;
  }
  return first;
}

// "41..43"; "no step".
std::string steps_text(const Record& record) {
  if (record.steps.empty()) return "no step";
  const auto [first, last] =
      std::minmax_element(record.steps.begin(), record.steps.end(),
                          [](const StepEntry& x, const StepEntry& y) { return x.epoch < y.epoch; });
  return concat(first->epoch, "..", last->epoch);
}

Result<ExplainContext> context_of(const Record& record, const ExplainOptions& options) {
  ExplainContext context{.record = record, .first = first_finding(record, options.step)};
  if (!record.ranks.empty()) context.rank = record.ranks.front().rank;
  for (const StepEntry& entry : record.steps) context.step = std::max(context.step, entry.epoch);
  if (!record.faults.empty() && record.faults.front().fault.step > 0) {
    context.rank = record.faults.front().fault.rank;
    context.step = record.faults.front().fault.step;
  }
  if (context.first != nullptr) {
    context.rank = context.first->at.rank;
    context.step = context.first->at.step;
  }
  if (options.step) {
    context.step = *options.step;
    const auto has = [&](const StepEntry& entry) { return entry.epoch == *options.step; };
    const auto found = std::find_if(record.steps.begin(), record.steps.end(), has);
    if (found == record.steps.end())
      return error(Code::kNotFound, "explain: step ", *options.step,
                   " is not in the record; expected one of ", steps_text(record));
    if (step_entry(record, context.rank, context.step) == nullptr) context.rank = found->rank;
  }
  context.entry = step_entry(record, context.rank, context.step);
  if (context.entry != nullptr) context.plan = plan_of(record, *context.entry);
  for (const FirstBadLaunch& launch : record.first_bad_launch) {
    if (context.first != nullptr && same_launch(launch.at, context.first->at)) context.launch = &launch;
  }
  for (const RerunEntry& rerun : record.rerun) {
    if (rerun.rank == context.rank && rerun.step == context.step) context.rerun = &rerun;
  }
  for (const RankEntry& rank : record.ranks) context.plans.push_back(verdict_on_plans(record, rank));
  return context;
}

std::string title_of(const Record& record) {
  std::string title = counted(static_cast<int64_t>(record.ranks.size()), "rank");
  std::set<uint64_t> epochs;
  for (const StepEntry& step : record.steps) epochs.insert(step.epoch);
  title += ", " + counted(static_cast<int64_t>(epochs.size()), "step");
  if (!epochs.empty()) title += concat(" (", steps_text(record), ")");
  if (!record.ranks.empty() && !record.ranks.front().model.empty())
    title += ", " + record.ranks.front().model;
  if (!record.ranks.empty() && !record.ranks.front().device.empty())
    title += " on " + record.ranks.front().device;
  return title;
}

std::string with_source(const Answer& answer) {
  return concat(answer.answer, " [", name_of(answer.source), "]");
}

const Answer* answer_called(const std::vector<Answer>& answers, std::string_view id) {
  const auto at =
      std::find_if(answers.begin(), answers.end(), [id](const Answer& each) { return each.id == id; });
  return at == answers.end() ? nullptr : &*at;
}

std::vector<std::string> verdict_of(const ExplainContext& context, const std::vector<Answer>& answers) {
  std::vector<std::string> lines;
  if (!context.record.faults.empty()) {
    const FaultEntry& fault = context.record.faults.front();
    lines.push_back(concat("rank ", fault.fault.rank, " stopped: ", fault.message, " [seen]"));
  }
  const bool anything = context.first != nullptr || !context.record.faults.empty();
  if (!anything) lines.push_back("no fault was recorded [seen]");
  for (const std::string_view id : {"first", "rows", "input", "plan", "oracle"}) {
    const Answer* answer = answer_called(answers, id);
    const bool of_numbers = id != "plan" && context.first == nullptr;
    if (answer == nullptr || answer->source == Source::kNotRecorded || of_numbers) continue;
    lines.push_back(id == "plan" ? "is the plan valid? " + with_source(*answer) : with_source(*answer));
  }
  return lines;
}

std::vector<LaunchStrip> launch_strips(const ExplainContext& context) {
  std::vector<LaunchStrip> strips;
  for (const RankEntry& rank : context.record.ranks) {
    const Finding* first = nullptr;
    for (const Finding& finding : context.record.findings) {
      if (finding.at.rank == rank.rank && (first == nullptr || earlier(finding.at, first->at)))
        first = &finding;
    }
    LaunchStrip strip{.rank = rank.rank, .step = first == nullptr ? context.step : first->at.step};
    for (const LaunchEntry& launch : context.record.launches) {
      if (launch.at.rank != rank.rank || launch.at.step != strip.step) continue;
      const bool is_first = first != nullptr && same_launch(launch.at, first->at);
      strip.launches.push_back({.order = launch.at.order,
                                .layer = launch.at.layer,
                                .kind = launch.at.layer_kind,
                                .stage = launch.at.stage,
                                .op = launch.at.op,
                                .state = is_first     ? LaunchMark::State::kFirst
                                         : launch.bad ? LaunchMark::State::kBad
                                                      : LaunchMark::State::kClean});
    }
    std::stable_sort(strip.launches.begin(), strip.launches.end(),
                     [](const LaunchMark& a, const LaunchMark& b) { return a.order < b.order; });
    if (!strip.launches.empty()) strips.push_back(std::move(strip));
  }
  return strips;
}

std::vector<RowStrip> row_strips(const ExplainContext& context, const std::vector<LaunchStrip>& launches) {
  std::vector<RowStrip> strips;
  for (const RankEntry& rank : context.record.ranks) {
    uint64_t step = context.step;
    for (const LaunchStrip& strip : launches) {
      if (strip.rank == rank.rank) step = strip.step;
    }
    const StepEntry* entry = step_entry(context.record, rank.rank, step);
    const std::optional<StepPlan> plan = entry == nullptr ? std::nullopt : plan_of(context.record, *entry);
    if (!plan) continue;
    RowStrip strip{.rank = rank.rank, .step = step, .rows = owners_of(*plan).rows};
    for (const Finding& finding : context.record.findings) {
      if (finding.at.rank != rank.rank || finding.at.step != step) continue;
      for (const int32_t row : finding.rows) {
        if (row >= 0 && static_cast<size_t>(row) < strip.rows.size())
          strip.rows[static_cast<size_t>(row)].bad = true;
      }
    }
    strips.push_back(std::move(strip));
  }
  return strips;
}

}  // namespace

std::string_view name_of(Source source) {
  switch (source) {
    case Source::kNotRecorded: return "not recorded";
    case Source::kSeen: return "seen";
    case Source::kRerun: return "from the rerun";
  }
  return "";
}

Result<Explanation> explain(const Record& record, const ExplainOptions& options) {
  const ExplainContext context = LS_TRY(context_of(record, options));
  Explanation explanation{.title = title_of(record)};
  explanation.answers = {answer_first(context),    answer_phase(context),  answer_input(context),
                         answer_rows(context),     answer_stage(context),  answer_carried(context),
                         answer_plan(context),     answer_oracle(context), answer_f32(context),
                         answer_bindings(context), answer_device(context), answer_ranks(context)};
  explanation.verdict = verdict_of(context, explanation.answers);
  explanation.launches = launch_strips(context);
  explanation.rows = row_strips(context, explanation.launches);
  return explanation;
}

}  // namespace lockstep
