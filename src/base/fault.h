// Fault: one broken rule between plan, consumers, graphs and ranks, in parts that people, records and
// machines read alike. docs/checks.md lists the rules.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace lockstep {

// When a rule is held up against what is there.
enum class Moment : uint8_t { kPlan, kBind, kCapture, kLaunch, kReplay, kGroup, kCommit, kPoison };
std::string_view name_of(Moment moment);
std::optional<Moment> moment_of(std::string_view name);

struct Fault {
  std::string check;  // "R2"
  Moment moment = Moment::kPlan;
  std::string consumer;  // who; empty: the plan itself
  std::string field;     // of the plan, or an argument, or an allocation
  int64_t row = -1;      // entry of the field; -1: all of it
  int32_t rank = 0;
  uint64_t step = 0;  // epoch; 0: not of one step
  std::string expected;
  std::string found;

  // "step 12: R2 paged_attention: seq_lens[0] is 96; expected 95, as captured"
  std::string message() const;
};

// Whether a rule is held up at all. Always true; the test library alone has another definition, to see which
// faults go unnamed without a rule.
bool rule_is_on(std::string_view check);

// The failure that a broken rule is: kInternal, with the fault inside. ok() when the rule is switched off.
[[gnu::cold]] Status broken(Fault fault);

}  // namespace lockstep
