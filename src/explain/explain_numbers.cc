// Answers about the numbers: what was first, whose rows, through which door it came.
#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "diag/table.h"
#include "explain/explain_context.h"

namespace lockstep {
namespace {

constexpr std::string_view kNothingFound =
    "no launch gave numbers that are not finite, as far as was recorded";

// Findings of one launch.
std::vector<const Finding*> findings_at(const ExplainContext& context, const LaunchPlace& place) {
  std::vector<const Finding*> found;
  for (const Finding& finding : context.record.findings) {
    if (same_launch(finding.at, place)) found.push_back(&finding);
  }
  return found;
}

Answer ask(std::string id, std::string question) {
  return {.id = std::move(id), .question = std::move(question)};
}

std::string count_text(const Finding& finding) {
  std::string text;
  if (finding.nan > 0) text += grouped(finding.nan) + " NaN";
  if (finding.inf > 0) text += (text.empty() ? "" : ", ") + grouped(finding.inf) + " Inf";
  return text.empty() ? "nothing" : text;
}

Answer not_found(Answer answer, const ExplainContext& context) {
  answer.answer = "not recorded";
  if (context.record.launches.empty()) return answer;
  answer.source = Source::kSeen;
  answer.answer = kNothingFound;
  return answer;
}

std::string clean_word(Verdict verdict) {
  return verdict == Verdict::kYes ? "clean" : verdict == Verdict::kNo ? "not clean" : "not recorded";
}

std::string_view came_word(const ExplainContext& context, int32_t rank) {
  for (const RankNumbers& each : context.numbers) {
    if (each.rank == rank && each.came != Came::kNot)
      return each.came == Came::kMade ? "made here" : "received";
  }
  return "";
}

// The first launch of every rank that has one, for the table beside the answer.
EvidenceTable firsts_of_ranks(const ExplainContext& context) {
  EvidenceTable table{
      .title = "first on each rank",
      .columns = {"rank", "step", "launch", "layer", "kind", "stage", "op", "numbers", "came"},
      .right = {true, true, true, true, false, false, false, false, false}};
  for (const RankEntry& rank : context.record.ranks) {
    const Finding* first = nullptr;
    for (const Finding& each : context.record.findings) {
      if (each.at.rank != rank.rank || each.side == Side::kInput) continue;
      if (first == nullptr ||
          std::tie(each.at.step, each.at.order) < std::tie(first->at.step, first->at.order))
        first = &each;
    }
    if (first == nullptr) {
      table.rows.push_back({concat(rank.rank), "-", "-", "-", "nothing found"});
      continue;
    }
    table.rows.push_back({concat(rank.rank), concat(first->at.step), concat(first->at.order),
                          first->at.layer < 0 ? "-" : concat(first->at.layer),
                          std::string(name_of(first->at.layer_kind)), first->at.stage, first->at.op,
                          count_text(*first), std::string(came_word(context, rank.rank))});
  }
  return table;
}

// Ranks that did the same at the same time: no collective lies between them.
std::vector<int32_t> at_the_same_launch(const ExplainContext& context) {
  std::vector<int32_t> ranks;
  const LaunchTime time = context.clock.time_of(context.first->at);
  for (const RankNumbers& each : context.numbers) {
    if (each.first != nullptr && each.time == time && each.came == Came::kMade) ranks.push_back(each.rank);
  }
  if (ranks.empty()) ranks.push_back(context.first->at.rank);
  return ranks;
}

// What there is to say of a fault that no numbers tell of.
Answer first_fault(Answer answer, const ExplainContext& context) {
  const FaultEntry& fault = context.record.faults.front();
  answer.source = Source::kSeen;
  answer.answer = concat(fault.fault.rank >= 0 ? concat("rank ", fault.fault.rank) : "another rank", ": ",
                         sentence_of(fault));
  if (!context.record.launches.empty()) answer.evidence.push_back(std::string(kNothingFound));
  return answer;
}

}  // namespace

Answer answer_first(const ExplainContext& context) {
  Answer answer = ask("first", "What was first, across all ranks?");
  if (context.first == nullptr && !context.record.faults.empty())
    return first_fault(std::move(answer), context);
  if (context.first == nullptr) return not_found(std::move(answer), context);
  const Finding& first = *context.first;
  const std::vector<int32_t> who = at_the_same_launch(context);
  answer.source = source_of(first.source);
  answer.answer = concat(names_of(who), ", ", launch_text(first.at),
                         who.size() == 1 ? " was the first to " : " were the first to ",
                         first.side == Side::kInput ? "read" : "give", " numbers that are not finite");
  answer.evidence.push_back(concat(first.argument, ": ", count_text(first), " in ",
                                   counted(first.row_count, "row"), ", the largest finite magnitude is ",
                                   digits(first.max_abs)));
  for (const Finding& other : context.record.findings) {
    if (other.at.rank == first.at.rank || other.at.step == first.at.step || other.side == Side::kInput)
      continue;
    answer.evidence.push_back(
        concat("rank ", other.at.rank, " has a first of its own: look at it with --step ", other.at.step));
    break;
  }
  answer.tables.push_back(firsts_of_ranks(context));
  return answer;
}

Answer answer_phase(const ExplainContext& context) {
  Answer answer = ask("phase", "Prefill or decode?");
  if (!context.plan) {
    const bool known = context.first != nullptr && !context.first->at.phase.empty();
    answer.answer = known
                        ? concat(context.first->at.phase, ", step ", context.step, " of rank ", context.rank)
                        : "not recorded";
    if (known) answer.source = source_of(context.first->source);
    return answer;
  }
  const StepPlan& plan = *context.plan;
  answer.source = Source::kSeen;
  answer.answer = concat(name_of(static_cast<Phase>(plan.scalar(field::phase))), ", step ", context.step,
                         " of rank ", context.rank);
  EvidenceTable table{.title = "sequences of that step",
                      .columns = {"sequence", "id", "rows", "cached before", "prompt", "doing"},
                      .right = {true, true, true, true, true, false}};
  const auto starts = plan.get(field::query_start_loc);
  const auto computed = plan.get(field::computed_lens);
  const auto prompts = plan.get(field::prompt_lens);
  const auto live =
      static_cast<size_t>(std::clamp(plan.scalar(field::num_seqs).get(), 0, plan.bucket().seqs.get()));
  for (size_t s = 0; s < live; ++s) {
    const bool known = s < context.entry->sequence_ids.size();
    const bool prefill = computed[s].get() < prompts[s].get();
    table.rows.push_back({concat(s), known ? concat(context.entry->sequence_ids[s]) : "-",
                          concat(int64_t{starts[s + 1].get()} - starts[s].get()), concat(computed[s]),
                          concat(prompts[s]), prefill ? "prefill" : "decode"});
  }
  answer.tables.push_back(std::move(table));
  return answer;
}

Answer answer_input(const ExplainContext& context) {
  Answer answer = ask("input", "Was its input clean?");
  if (context.first == nullptr) return not_found(std::move(answer), context);
  std::vector<const Finding*> inputs;
  for (const Finding* finding : findings_at(context, context.first->at)) {
    if (finding->side == Side::kInput) inputs.push_back(finding);
  }
  const bool listed = context.launch != nullptr && !context.launch->inputs.empty();
  answer.source = Source::kNotRecorded;
  answer.answer = "not recorded";
  if (!listed && inputs.empty()) return answer;
  const bool received = context.first->at.collective && inputs.empty();
  bool clean = inputs.empty(), all_known = true;
  EvidenceTable table{.title = "inputs of that launch",
                      .columns = {"argument", "state", "NaN", "Inf", "largest"},
                      .right = {false, false, true, true, true}};
  if (listed) {
    for (const InputState& input : context.launch->inputs) {
      clean &= input.clean != Verdict::kNo;
      all_known &= input.clean != Verdict::kNotRecorded;
      table.rows.push_back({input.argument, clean_word(input.clean), grouped(input.nan), grouped(input.inf),
                            digits(input.max_abs)});
    }
  } else {
    for (const Finding* each : inputs)
      table.rows.push_back(
          {each->argument, "not clean", grouped(each->nan), grouped(each->inf), digits(each->max_abs)});
  }
  answer.source = source_of(listed ? context.launch->source : inputs.front()->source);
  answer.answer = received    ? "what it took to a collective was clean: another rank brought the numbers"
                  : !clean    ? "its input was not clean: the numbers came from before it"
                  : all_known ? "its inputs were clean: it made the numbers itself"
                              : "the inputs that were looked at were clean; not all were";
  answer.tables.push_back(std::move(table));
  return answer;
}

Answer answer_rows(const ExplainContext& context) {
  Answer answer = ask("rows", "Live rows, pad rows, or rows that nobody owns?");
  if (context.first == nullptr) return not_found(std::move(answer), context);
  answer.source = source_of(context.first->source);
  const RowOwners owners = context.plan ? owners_of(*context.plan) : RowOwners{};
  EvidenceTable table{
      .title = "rows by owner, of the first bad output",
      .columns = {"owner", "rows of the step", "affected", "NaN", "Inf", "elements", "which rows"},
      .right = {false, true, true, true, true, true, false}};
  std::string said;
  for (const Owner owner : {Owner::kLive, Owner::kPad, Owner::kUnowned, Owner::kGathered}) {
    const Finding* found = nullptr;
    for (const Finding* each : findings_at(context, context.first->at)) {
      if (each->side == context.first->side && each->argument == context.first->argument &&
          each->owner == owner)
        found = each;
    }
    const std::string all = context.plan ? concat(owners.count(owner)) : "-";
    const std::string whose = owner == Owner::kUnowned ? "unowned" : std::string(name_of(owner));
    if (found == nullptr) {
      if (owner == Owner::kGathered) continue;
      table.rows.push_back({whose, all, "0", "0", "0", "-", ""});
      continue;
    }
    table.rows.push_back({whose, all, grouped(found->row_count), grouped(found->nan), grouped(found->inf),
                          grouped(found->elements), rows_text(found->rows, found->row_count)});
    said += (said.empty() ? "" : "; ") +
            counted(found->row_count, owner == Owner::kLive  ? "live row"
                                      : owner == Owner::kPad ? "pad row"
                                                             : "row") +
            (owner == Owner::kUnowned    ? " that nobody owns"
             : owner == Owner::kGathered ? " of several ranks"
                                         : "") +
            concat(" (", rows_text(found->rows, found->row_count), "): ", count_text(*found), " of ",
                   grouped(found->elements), " elements");
    for (const uint64_t id : found->sequences)
      answer.evidence.push_back(concat("sequence ", id, " is affected"));
  }
  answer.answer = said;
  if (context.plan) {
    answer.evidence.push_back(concat(
        "owners come from query_start_loc of the plan, not from its row count: ", owners.count(Owner::kLive),
        " live, ", owners.count(Owner::kPad), " pad, ", owners.count(Owner::kUnowned), " unowned"));
  }
  answer.tables.push_back(std::move(table));
  return answer;
}

Answer answer_stage(const ExplainContext& context) {
  Answer answer = ask("stage", "Which stage: projection, rotary, scores, softmax, output?");
  if (context.first == nullptr) return not_found(std::move(answer), context);
  const LaunchPlace& at = context.first->at;
  answer.source = source_of(context.first->source);
  answer.answer = concat("stage ", at.stage, " (", at.op, ")");
  if (at.op == "paged_attention")
    answer.evidence.push_back(
        "scores, softmax and the weighted sum of values are one launch here: the stages before "
        "it say whether projection or rotary was it");
  EvidenceTable table{.title = "launches of that layer, in their order",
                      .columns = {"launch", "stage", "op", "outputs"},
                      .right = {true, false, false, false}};
  for (const LaunchEntry& launch : context.record.launches) {
    if (launch.at.rank != at.rank || launch.at.step != at.step || launch.at.layer != at.layer) continue;
    const bool is_first = same_launch(launch.at, at);
    table.rows.push_back({concat(launch.at.order), launch.at.stage, launch.at.op,
                          is_first     ? "not finite, the first"
                          : launch.bad ? "not finite"
                                       : "clean"});
  }
  if (table.rows.empty())
    answer.evidence.push_back("which launches of the layer were looked at is not recorded");
  else
    answer.tables.push_back(std::move(table));
  return answer;
}

Answer answer_carried(const ExplainContext& context) {
  Answer answer = ask("carried", "Could earlier poison have come through the cache or a state?");
  int64_t before = 0, with_poison = 0;
  for (const StepEntry& step : context.record.steps) {
    if (step.rank != context.rank || step.epoch >= context.step) continue;
    ++before;
    with_poison +=
        std::any_of(step.non_finite.begin(), step.non_finite.end(), [](int32_t n) { return n > 0; });
  }
  answer.evidence.push_back(before == 0 ? std::string("no earlier step of this rank is recorded")
                                        : concat(with_poison, " of ", counted(before, "recorded step"),
                                                 " before it on this rank had logits that are not finite"));
  const RerunEntry* rerun = context.rerun;
  if (rerun == nullptr ||
      (rerun->cache_clean == Verdict::kNotRecorded && rerun->state_clean == Verdict::kNotRecorded)) {
    answer.answer = "not recorded";
    return answer;
  }
  answer.source = Source::kRerun;
  answer.evidence.push_back(concat("before the step, the pages of its sequences were ",
                                   clean_word(rerun->cache_clean), ", their states ",
                                   clean_word(rerun->state_clean)));
  const bool dirty = rerun->cache_clean == Verdict::kNo || rerun->state_clean == Verdict::kNo;
  const bool known = rerun->cache_clean == Verdict::kYes && rerun->state_clean == Verdict::kYes;
  answer.answer = dirty   ? concat("yes: the ", rerun->cache_clean == Verdict::kNo ? "cache" : "state",
                                   " was not clean before the step")
                  : known ? "no: cache and states were clean before the step"
                          : "not through what was looked at; the rest is not recorded";
  return answer;
}

Answer answer_oracle(const ExplainContext& context) {
  Answer answer = ask("oracle", "Does the CPU oracle agree on the same inputs?");
  answer.answer = "not recorded";
  if (context.rerun == nullptr || context.rerun->oracle_agrees == Verdict::kNotRecorded) return answer;
  const RerunEntry& rerun = *context.rerun;
  answer.source = Source::kRerun;
  answer.answer =
      rerun.oracle_agrees == Verdict::kYes
          ? "on the same inputs the CPU oracle gives the same: these inputs lead there, whichever kernel"
          : "on the same inputs the CPU oracle does not agree: the kernel did something else than the op "
            "says";
  answer.evidence.push_back(concat("largest difference ", digits(rerun.oracle_difference)));
  if (rerun.reproduced != Verdict::kNotRecorded)
    answer.evidence.push_back(concat(
        "the rerun ", rerun.reproduced == Verdict::kYes ? "reproduced" : "did not reproduce", " the fault"));
  for (const std::string& note : rerun.notes) answer.evidence.push_back(note);
  return answer;
}

Answer answer_f32(const ExplainContext& context) {
  Answer answer = ask("f32", "Does f32 agree?");
  answer.answer = "not recorded";
  if (context.rerun == nullptr || context.rerun->f32_agrees == Verdict::kNotRecorded) return answer;
  answer.source = Source::kRerun;
  answer.answer = context.rerun->f32_agrees == Verdict::kYes
                      ? "the same kernels in f32 agree: rounding is not the cause"
                      : "the same kernels in f32 do not agree: rounding is part of the cause";
  answer.evidence.push_back(concat("largest difference ", digits(context.rerun->f32_difference)));
  return answer;
}

}  // namespace lockstep
