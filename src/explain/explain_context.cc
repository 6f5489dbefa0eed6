#include "explain/explain_context.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iomanip>
#include <sstream>

#include "plan/validate.h"

namespace lockstep {
namespace {

// A validator takes memory by these; a record's limits are somebody else's numbers.
constexpr int64_t kMostTableEntries = int64_t{1} << 25;
constexpr int64_t kMostPages = int64_t{1} << 22;

bool fits_a_validator(const StepLimits& limits) {
  int64_t entries = 0, pages = limits.penalty_slots;
  for (int32_t g = 0; g < limits.num_groups; ++g) {
    const CacheGroup& group = limits.group(GroupId(g));
    entries += int64_t{group.table_rows} * group.max_pages_per_seq;
    pages += group.num_pages;
  }
  return entries <= kMostTableEntries && pages <= kMostPages;
}

Status resume(const RankEntry& rank, PlanValidator& validator) {
  PlanValidator::Past past{.epoch = Epoch(rank.epoch_before),
                           .logits_rows = LiveRows(rank.logits_rows_before)};
  for (const TableEntry& table : rank.tables) {
    const RecordTensor& edits = table.edits;
    const bool shaped = edits.dtype == DType::kI32 && edits.bytes.size() % sizeof(TableEdit) == 0;
    if (table.group < 0 || table.group >= kMaxGroups || (!shaped && !edits.bytes.empty())) {
      return error(Code::kInvalidArgument, "the tables of group ", table.group,
                   " are no list of i32 triples; expected [entries, 3]");
    }
    past.tables[static_cast<size_t>(table.group)] = {reinterpret_cast<const TableEdit*>(edits.bytes.data()),
                                                     edits.bytes.size() / sizeof(TableEdit)};
  }
  return validator.resume(past);
}

}  // namespace

int64_t RowOwners::count(Owner owner) const {
  return std::count_if(rows.begin(), rows.end(), [owner](const RowMark& row) { return row.owner == owner; });
}

RowOwners owners_of(const StepPlan& plan) {
  RowOwners owners{.rows = std::vector<RowMark>(static_cast<size_t>(plan.bucket().rows.get()),
                                                {.owner = Owner::kUnowned})};
  const auto starts = plan.get(field::query_start_loc);
  const int32_t live = plan.scalar(field::num_seqs).get();
  for (size_t s = 0; s + 1 < starts.size(); ++s) {
    const int32_t end = std::min(starts[s + 1].get(), plan.bucket().rows.get());
    for (int32_t row = std::max(starts[s].get(), 0); row < end; ++row) {
      const auto sequence = static_cast<int32_t>(s);
      owners.rows[static_cast<size_t>(row)] = {.owner = sequence < live ? Owner::kLive : Owner::kPad,
                                               .sequence = sequence};
    }
  }
  return owners;
}

PlanVerdict verdict_on_plans(const Record& record, const RankEntry& rank) {
  PlanVerdict verdict;
  const auto cannot = [&verdict](std::string why) {
    verdict.text = std::move(why);
    return verdict;
  };
  if (!rank.tables_known) return cannot("the page tables before the first recorded step are not recorded");
  const Status limits = check_limits(rank.limits);
  if (!limits.ok()) return cannot(limits.message());
  if (!fits_a_validator(rank.limits))
    return cannot("the limits are larger than any that this command checks");
  PlanValidator validator(rank.limits);
  const Status resumed = resume(rank, validator);
  if (!resumed.ok()) return cannot(resumed.message());
  for (const StepEntry& step : record.steps) {
    if (step.rank != rank.rank) continue;
    const std::optional<StepPlan> plan = plan_of(record, step);
    if (!plan) return cannot(concat("the plan of step ", step.epoch, " is not recorded"));
    ++verdict.plans;
    const Violation* violation = validator.check(*plan);
    if (violation == nullptr) continue;
    verdict.kind = PlanVerdict::Kind::kBroken;
    verdict.text = describe(*violation, plan->scalar(field::epoch));
    verdict.check = std::string(violation->check);
    verdict.epoch = step.epoch;
    return verdict;
  }
  if (verdict.plans == 0) return cannot("no step is recorded");
  verdict.kind = PlanVerdict::Kind::kValid;
  return verdict;
}

std::string place_text(const LaunchPlace& place) {
  return concat("rank ", place.rank, ", ", launch_text(place));
}

std::string launch_text(const LaunchPlace& place) {
  std::string text = concat("step ", place.step);
  if (place.layer >= 0) text += concat(", layer ", place.layer, " (", name_of(place.layer_kind), ")");
  return text + concat(", ", place.stage, place.stage == place.op ? "" : concat(", ", place.op));
}

bool same_launch(const LaunchPlace& a, const LaunchPlace& b) {
  return a.rank == b.rank && a.step == b.step && a.order == b.order;
}

Source source_of(Seen seen) { return seen == Seen::kSeen ? Source::kSeen : Source::kRerun; }

const StepEntry* step_entry(const Record& record, int32_t rank, uint64_t epoch) {
  const auto at = std::find_if(record.steps.begin(), record.steps.end(), [&](const StepEntry& entry) {
    return entry.rank == rank && entry.epoch == epoch;
  });
  return at == record.steps.end() ? nullptr : &*at;
}

std::string rows_text(const std::vector<int32_t>& rows, int64_t all) {
  std::string text;
  for (size_t i = 0; i < rows.size();) {
    size_t last = i;
    while (last + 1 < rows.size() && rows[last + 1] == rows[last] + 1) ++last;
    text += (text.empty() ? "" : ", ") + concat(rows[i]);
    if (last > i) text += concat(last == i + 1 ? ", " : "..", rows[last]);
    i = last + 1;
  }
  const int64_t more = all - static_cast<int64_t>(rows.size());
  if (more > 0) text += concat(text.empty() ? "" : " and ", more, " more");
  return text;
}

std::string names_of(const std::vector<int32_t>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < ranks.size(); ++i) text += concat(i > 0 ? ", " : "", ranks[i]);
  return text;
}

std::string sentence_of(const FaultEntry& fault) {
  const std::string prefix = concat("rank ", fault.told ? fault.fault.rank : fault.on_rank, ": ");
  const std::string line = fault.message.substr(0, fault.message.find('\n'));
  return line.starts_with(prefix) ? line.substr(prefix.size()) : line;
}

std::string hex_text(Digest digest) {
  std::ostringstream text;
  text << std::hex << std::setw(16) << std::setfill('0') << digest;
  return std::move(text).str();
}

std::string counted(int64_t count, std::string_view noun) {
  return concat(count, " ", noun, count == 1 ? "" : "s");
}

std::string digits(double number) {
  if (!std::isfinite(number)) return "not finite";
  char text[40];
  const auto end = std::to_chars(text, text + sizeof(text), number).ptr;
  return {text, end};
}

}  // namespace lockstep
