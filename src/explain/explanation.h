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
  uint64_t step = 0;
  std::vector<RowMark> rows;  // empty: not recorded
};

struct Explanation {
  std::string title;                 // "2 ranks, 3 steps (41..43), storyteller"
  std::vector<std::string> verdict;  // three to six sentences
  std::vector<Answer> answers;
  std::vector<LaunchStrip> launches;  // one per rank that has any
  std::vector<RowStrip> rows;         // one per rank
};

// As text for a terminal, as one JSON document, as one page that needs nothing else. `file` is the record's
// name.
std::string explanation_text(const Explanation& explanation, std::string_view file);
std::string explanation_json(const Explanation& explanation, std::string_view file);
std::string explanation_html(const Explanation& explanation, std::string_view file);

}  // namespace lockstep
