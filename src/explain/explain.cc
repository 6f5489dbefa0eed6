#include "explain/explain.h"

#include <algorithm>
#include <map>
#include <set>

#include "explain/explain_context.h"

namespace lockstep {
namespace {

// The first of each rank, in the order of ranks. What a launch gave counts before what it read.
std::vector<RankNumbers> numbers_of_ranks(const Record& record, const LaunchClock& clock,
                                          std::optional<uint64_t> step) {
  std::map<int32_t, RankNumbers> of;
  for (const RankEntry& rank : record.ranks) of[rank.rank].rank = rank.rank;
  for (const Finding& finding : record.findings) {
    if (step && finding.at.step != *step) continue;
    RankNumbers& numbers = of[finding.at.rank];
    numbers.rank = finding.at.rank;
    const LaunchTime time = clock.time_of(finding.at);
    const bool output = numbers.first != nullptr && same_launch(finding.at, numbers.first->at) &&
                        numbers.first->side == Side::kInput && finding.side == Side::kOutput;
    if (numbers.first != nullptr && time >= numbers.time && !output) continue;
    numbers.first = &finding;
    numbers.time = time;
  }
  std::set<std::tuple<int32_t, uint64_t, int32_t>> took;  // launches with an input that was not clean
  for (const Finding& finding : record.findings) {
    if (finding.side == Side::kInput) took.insert({finding.at.rank, finding.at.step, finding.at.order});
  }
  std::vector<RankNumbers> all;
  for (auto& [rank, numbers] : of) {
    if (numbers.first != nullptr) {
      const LaunchPlace& at = numbers.first->at;
      const bool clean_input = took.count({at.rank, at.step, at.order}) == 0;
      numbers.came = at.collective && clean_input ? Came::kReceived : Came::kMade;
    }
    all.push_back(numbers);
  }
  return all;
}

const Finding* first_of(const std::vector<RankNumbers>& numbers) {
  const RankNumbers* first = nullptr;
  for (const RankNumbers& each : numbers) {
    if (each.first != nullptr && (first == nullptr || each.time < first->time)) first = &each;
  }
  return first == nullptr ? nullptr : first->first;
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
  ExplainContext context{.record = record, .clock = LaunchClock(record), .meetings = meetings_of(record)};
  context.numbers = numbers_of_ranks(record, context.clock, options.step);
  context.first = first_of(context.numbers);
  for (const LedgerEntry& entry : record.ledger) {
    uint64_t& last = context.last_entered[{entry.rank, entry.group}];
    last = std::max(last, entry.number);
  }
  if (!record.ranks.empty()) context.rank = record.ranks.front().rank;
  for (const StepEntry& entry : record.steps) context.step = std::max(context.step, entry.epoch);
  if (!record.faults.empty() && record.faults.front().fault.step > 0) {
    const FaultEntry& cause = record.faults.front();
    const bool known = rank_entry(record, cause.fault.rank) != nullptr;
    context.rank = known ? cause.fault.rank : cause.on_rank;
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
  const Answer* cause = answer_called(answers, "cause");  // says it where there are several ranks
  if (!context.record.faults.empty() && cause->source == Source::kNotRecorded) {
    const FaultEntry& fault = context.record.faults.front();
    lines.push_back(concat("rank ", fault.on_rank, " stopped: ", sentence_of(fault), " [seen]"));
  }
  const bool anything = context.first != nullptr || !context.record.faults.empty();
  if (!anything) lines.push_back("no fault was recorded [seen]");
  for (const std::string_view id : {"cause", "first", "rows", "input", "spread", "plan", "oracle"}) {
    const Answer* answer = answer_called(answers, id);
    const bool of_numbers = id != "plan" && id != "cause" && context.first == nullptr;
    if (answer == nullptr || answer->source == Source::kNotRecorded || of_numbers) continue;
    lines.push_back(id == "plan" ? "is the plan valid? " + with_source(*answer) : with_source(*answer));
  }
  return lines;
}

std::vector<LaunchStrip> launch_strips(const ExplainContext& context) {
  std::vector<LaunchStrip> strips;
  for (const RankNumbers& rank : numbers_of_ranks(context.record, context.clock, std::nullopt)) {
    const Finding* first = rank.first;
    const RankEntry* entry = rank_entry(context.record, rank.rank);
    LaunchStrip strip{.rank = rank.rank,
                      .place = entry == nullptr ? "" : entry->place,
                      .received = rank.came == Came::kReceived,
                      .step = first == nullptr ? context.step : first->at.step};
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
    RowStrip strip{.rank = rank.rank, .place = rank.place, .step = step, .rows = owners_of(*plan).rows};
    for (const Finding& finding : context.record.findings) {
      if (finding.at.rank != rank.rank || finding.at.step != step || finding.owner == Owner::kGathered)
        continue;
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
                         answer_bindings(context), answer_device(context), answer_ranks(context),
                         answer_cause(context),    answer_spread(context)};
  explanation.verdict = verdict_of(context, explanation.answers);
  explanation.launches = launch_strips(context);
  explanation.rows = row_strips(context, explanation.launches);
  explanation.meetings = meeting_marks(context);
  return explanation;
}

}  // namespace lockstep
