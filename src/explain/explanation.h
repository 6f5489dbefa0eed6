// Explanation: what a record says about a fault, as questions and answers, before anybody prints it. Text,
// JSON and HTML are three ways to write the same one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "guard/record_kinds.h"

namespace lockstep {

// Where an answer comes from.
enum class Source : uint8_t {
  kNotRecorded,  // the record cannot say
  kSeen,         // what was recorded as it happened
  kRerun,        // the run after the fault
};
std::string_view name_of(Source source);  // "not recorded", "seen", "from the rerun"

// Cells of text under titles; right[c]: column c holds numbers.
struct EvidenceTable {
  std::string title;
  std::vector<std::string> columns;
  std::vector<bool> right;
  std::vector<std::vector<std::string>> rows;
};

struct Answer {
  std::string id;  // "first"
  std::string question;
  std::string answer;  // one sentence
  Source source = Source::kNotRecorded;
  std::vector<std::string> evidence;  // sentences
  std::vector<EvidenceTable> tables;
  std::string listing;  // lines as they are: a plan
};

// One launch in the picture of a step.
struct LaunchMark {
  enum class State : uint8_t { kClean, kBad, kFirst };
  int32_t order = 0;
  int32_t layer = -1;
  LayerKind kind = LayerKind::kOther;
  std::string stage;
  std::string op;
  State state = State::kClean;
};
struct LaunchStrip {
  int32_t rank = 0;
  std::string place;      // of the rank: "dp 1 of 2"; empty: it is alone
  bool received = false;  // a collective brought the first that is not finite
  uint64_t step = 0;
  std::vector<LaunchMark> launches;  // in their order
};

// One row of the bucket in the picture of a step.
struct RowMark {
  Owner owner = Owner::kLive;
  int32_t sequence = -1;  // of the plan; -1: nobody's
  bool bad = false;
};
struct RowStrip {
  int32_t rank = 0;
  std::string place;  // as above
  uint64_t step = 0;
  std::vector<RowMark> rows;  // empty: not recorded
};

// One collective in the picture of ranks side by side.
struct MeetingMark {
  uint64_t order = 0;  // see guard/record_merge.h
  uint64_t step = 0;
  std::string group;
  uint64_t number = 0;           // within the group
  std::string what;              // "all_gather of 30 bf16", as the first rank says
  std::string where;             // in the step; empty: not said
  std::vector<int32_t> ranks;    // that entered it
  std::vector<int32_t> missing;  // that it waited for
  bool differs = false;          // the ranks say different things
};

struct Explanation {
  std::string title;                 // "2 ranks, 3 steps (41..43), storyteller"
  std::vector<std::string> verdict;  // three to six sentences
  std::vector<Answer> answers;
  std::vector<LaunchStrip> launches;  // one per rank that has any
  std::vector<RowStrip> rows;         // one per rank
  std::vector<MeetingMark> meetings;  // the newest, in order; empty: the ranks met in no collective
};

// As text for a terminal, as one JSON document, as one page that needs nothing else. `file` is the record's
// name.
std::string explanation_text(const Explanation& explanation, std::string_view file);
std::string explanation_json(const Explanation& explanation, std::string_view file);
std::string explanation_html(const Explanation& explanation, std::string_view file);

}  // namespace lockstep
