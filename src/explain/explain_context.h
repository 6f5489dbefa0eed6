// What all answers to one record share: the step they are about, and what was first there.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "explain/explanation.h"
#include "guard/record_merge.h"

namespace lockstep {

// Which rows of a step have which owner, from its plan alone.
struct RowOwners {
  std::vector<RowMark> rows;
  int64_t count(Owner owner) const;
};
RowOwners owners_of(const StepPlan& plan);

// What the rules say of one rank's recorded plans.
struct PlanVerdict {
  enum class Kind : uint8_t { kNotRecorded, kValid, kBroken };
  Kind kind = Kind::kNotRecorded;
  std::string text;    // of the broken rule, or why nothing can be said
  std::string check;   // "P1"
  uint64_t epoch = 0;  // of the broken plan
  int64_t plans = 0;   // held to the rules
};
PlanVerdict verdict_on_plans(const Record& record, const RankEntry& rank);

// How numbers that are not finite came to a rank.
enum class Came : uint8_t {
  kNot,       // none were found
  kMade,      // one of its own launches gave them first
  kReceived,  // a collective brought them: what the rank took there itself was clean
};
struct RankNumbers {
  int32_t rank = 0;
  Came came = Came::kNot;
  const Finding* first = nullptr;  // null: none
  LaunchTime time;                 // of it
};

struct ExplainContext {
  const Record& record;
  LaunchClock clock;
  std::vector<Meeting> meetings;
  // The newest collective of a group, by its number, that a rank entered.
  std::map<std::pair<int32_t, std::string_view>, uint64_t> last_entered;
  std::vector<RankNumbers> numbers;  // by Record::ranks, of the steps that are looked at
  int32_t rank = 0;
  uint64_t step = 0;
  const Finding* first = nullptr;          // the first of all ranks: null where no probe found anything
  const FirstBadLaunch* launch = nullptr;  // of that place; null: not recorded
  const RerunEntry* rerun = nullptr;       // of that rank and step
  const StepEntry* entry = nullptr;        // of rank and step
  std::optional<StepPlan> plan;            // of rank and step
  std::vector<PlanVerdict> plans;          // by Record::ranks
};

// "rank 0, step 41, layer 3 (softmax), attention, paged_attention"
std::string place_text(const LaunchPlace& place);
std::string launch_text(const LaunchPlace& place);  // the same without the rank
bool same_launch(const LaunchPlace& a, const LaunchPlace& b);
Source source_of(Seen seen);
const StepEntry* step_entry(const Record& record, int32_t rank, uint64_t epoch);
// "26..29"; "1, 4, 9 and 3 more".
std::string rows_text(const std::vector<int32_t>& rows, int64_t all);
std::string names_of(const std::vector<int32_t>& ranks);  // "rank 0", "ranks 0, 1"
// The first line of a fault's message, without the rank that says it.
std::string sentence_of(const FaultEntry& fault);
std::string hex_text(Digest digest);
std::string counted(int64_t count, std::string_view noun);  // "1 row", "2 rows"
std::string digits(double number);                          // as short as it reads back

// Answers, in the order in which they are printed.
Answer answer_first(const ExplainContext& context);
Answer answer_phase(const ExplainContext& context);
Answer answer_input(const ExplainContext& context);
Answer answer_rows(const ExplainContext& context);
Answer answer_stage(const ExplainContext& context);
Answer answer_carried(const ExplainContext& context);
Answer answer_plan(const ExplainContext& context);
Answer answer_oracle(const ExplainContext& context);
Answer answer_f32(const ExplainContext& context);
Answer answer_bindings(const ExplainContext& context);
Answer answer_device(const ExplainContext& context);
Answer answer_ranks(const ExplainContext& context);
Answer answer_cause(const ExplainContext& context);
Answer answer_spread(const ExplainContext& context);

// What collectives look like side by side, for a picture: the newest ones, in order.
std::vector<MeetingMark> meeting_marks(const ExplainContext& context);

}  // namespace lockstep
