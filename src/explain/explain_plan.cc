// Answers about the plan: whether it holds, who was bound to what, what the device read.
#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "diag/table.h"
#include "explain/explain_context.h"

namespace lockstep {
namespace {

constexpr size_t kMostBindings = 200;  // shown; a step has some sixty

Answer ask(std::string id, std::string question) {
  return {.id = std::move(id), .question = std::move(question), .answer = "not recorded"};
}

std::string list_text(const std::vector<int64_t>& numbers) {
  std::string text = "[";
  for (size_t i = 0; i < numbers.size(); ++i) text += concat(i > 0 ? ", " : "", numbers[i]);
  return text + "]";
}

// Fields whose digest on the device is not the one that it should be, by name.
std::string differing(const StepPlan& plan, const std::vector<Digest>& found) {
  const auto fields = plan.layout().fields();
  std::string names;
  for (size_t i = 0; i < std::min(found.size(), fields.size()); ++i) {
    if (found[i] == plan.field_digests()[i]) continue;
    names += (names.empty() ? "" : ", ") + std::string(name_of(fields[i].field));
    if (info_of(fields[i].field).scope != Scope::kPlan) names += concat(" of group ", fields[i].group);
  }
  return names;
}

}  // namespace

Answer answer_plan(const ExplainContext& context) {
  Answer answer = ask("plan", "Is the plan valid, and if not, which rule is broken?");
  std::map<std::string, std::vector<int32_t>> broken;  // ranks by what is broken
  bool all_valid = true;
  for (size_t r = 0; r < context.plans.size(); ++r) {
    const PlanVerdict& verdict = context.plans[r];
    const int32_t rank = context.record.ranks[r].rank;
    all_valid &= verdict.kind == PlanVerdict::Kind::kValid;
    if (verdict.kind == PlanVerdict::Kind::kBroken) {
      broken[verdict.text].push_back(rank);
    } else if (verdict.kind == PlanVerdict::Kind::kValid) {
      answer.evidence.push_back(
          concat("rank ", rank, ": ", counted(verdict.plans, "plan"), " held to every rule, none broken"));
    } else {
      answer.evidence.push_back(concat("rank ", rank, ": not recorded: ", verdict.text));
    }
  }
  if (!broken.empty() || (all_valid && !context.plans.empty())) {
    answer.source = Source::kSeen;
    answer.answer = broken.empty() ? "yes: every recorded plan keeps every rule" : "no: ";
    for (const auto& [rule, ranks] : broken)
      answer.answer += concat(answer.answer == "no: " ? "on " : "; on ", names_of(ranks), ", ", rule);
  }
  for (const FaultEntry& fault : context.record.faults) {
    if (!fault.told) answer.evidence.push_back("stopped with: " + sentence_of(fault));
  }
  if (!context.plan) return answer;
  const StepPlan& plan = *context.plan;
  if (context.entry->plan_digest != plan.digest()) {
    answer.evidence.push_back(concat("the recorded image has digest ", hex_text(plan.digest()),
                                     ", the plan was frozen as ", hex_text(context.entry->plan_digest)));
  }
  std::ostringstream listing;
  print_plan(plan, rank_entry(context.record, context.rank)->limits, listing);
  answer.listing = concat("rank ", context.rank, ", ", std::move(listing).str());
  return answer;
}

Answer answer_bindings(const ExplainContext& context) {
  Answer answer = ask("bindings", "Who was bound to what?");
  const uint64_t set = context.entry == nullptr ? 0 : context.entry->binding_set;
  EvidenceTable table{
      .title = concat("bindings of step ", context.step, " on rank ", context.rank),
      .columns = {"consumer", "field", "group", "by", "shape", "strides", "where", "generation"},
      .right = {false, false, true, false, false, false, false, true}};
  size_t all = 0;
  std::set<std::string> consumers;
  for (const BindingEntry& each : context.record.bindings) {
    if (set == 0 || each.rank != context.rank || each.set != set) continue;
    consumers.insert(each.consumer);
    if (++all > kMostBindings) continue;
    const bool decision = each.feed == "decision";
    const bool placed = !each.arena.empty();
    table.rows.push_back({each.consumer, each.field, concat(each.group), each.feed,
                          decision ? concat("= ", each.value) : list_text(each.shape),
                          decision ? "" : list_text(each.strides),
                          placed ? concat(each.arena, "/", each.allocation, "+", each.offset) : "host",
                          placed ? concat(each.generation) : "-"});
  }
  if (all == 0) return answer;
  answer.source = Source::kSeen;
  answer.answer = concat(counted(static_cast<int64_t>(consumers.size()), "consumer"), ", ",
                         counted(static_cast<int64_t>(all), "binding"), " in all");
  if (all > kMostBindings) answer.evidence.push_back(concat(all - kMostBindings, " more are not shown"));
  answer.tables.push_back(std::move(table));
  return answer;
}

Answer answer_device(const ExplainContext& context) {
  Answer answer = ask("device", "What did the device read, before and after?");
  if (context.entry == nullptr || !context.plan || context.entry->head.empty()) return answer;
  const StepEntry& entry = *context.entry;
  const std::string head = differing(*context.plan, entry.head);
  const bool written = entry.tail != 0 && entry.tail != entry.plan_digest;
  answer.source = Source::kSeen;
  answer.answer = !head.empty() ? concat("the device read other bytes than the plan's: ", head)
                  : written
                      ? "a kernel wrote to the plan"
                      : "the device read the plan's bytes, and they were the same after the last launch";
  answer.evidence.push_back(concat("head: ", counted(static_cast<int64_t>(entry.head.size()), "field"),
                                   " of step ", entry.head_epoch,
                                   head.empty() ? ", all as planned" : ", not as planned: " + head));
  if (entry.head_epoch != entry.epoch)
    answer.evidence.push_back(
        concat("the device saw step ", entry.head_epoch, " while the host ran step ", entry.epoch));
  answer.evidence.push_back(
      entry.tail == 0 ? std::string("tail: not recorded")
                      : concat("tail: the whole image, ", written ? "not as planned" : "as planned"));
  return answer;
}

}  // namespace lockstep
