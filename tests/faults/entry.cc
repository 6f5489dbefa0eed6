#include "faults/entry.h"

namespace lockstep::faults {
namespace {

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// "; the field is X, not Y" when they differ and something was asked for.
std::string other(std::string_view what, std::string_view asked, std::string_view said) {
  return asked.empty() || asked == said ? "" : concat("; ", what, " is ", said, ", not ", asked);
}

std::string lacks(std::string_view what, std::string_view asked, std::string_view said) {
  return contains(said, asked) ? "" : concat("; ", what, " is \"", said, "\", without \"", asked, "\"");
}

}  // namespace

std::string unmet(const Expectation& expect, const Status& status) {
  if (status.ok()) return concat("nobody noticed; ", expect.check, " should have");
  const Fault* fault = status.fault();
  if (fault == nullptr) return concat("failed without naming a rule: ", status.message());
  std::string missing = other("the rule", expect.check, fault->check);
  missing += other("the moment", name_of(expect.moment), name_of(fault->moment));
  missing += other("the field", expect.field, fault->field);
  missing += other("the consumer", expect.consumer, fault->consumer);
  if (expect.row >= 0 && expect.row != fault->row)
    missing += concat("; the row is ", fault->row, ", not ", expect.row);
  missing += lacks("what was expected", expect.expected, fault->expected);
  missing += lacks("what was found", expect.found, fault->found);
  return missing.empty() ? "" : concat("said: ", status.message(), missing);
}

Status must_say(const Expectation& expect, const Status& status) {
  const std::string missing = unmet(expect, status);
  return missing.empty() ? Status() : error(Code::kInternal, missing);
}

std::string_view class_name(char fault_class) {
  switch (fault_class) {
    case 'a': return "capture freezes a value, a branch or a layout";
    case 'b': return "a buffer moves or is freed after capture";
    case 'c': return "a graph overwrites the plan; copies out of order";
    case 'd': return "rows of padding without an owner";
    case 'e': return "strides and layouts that were assumed";
    case 'f': return "context parallelism loses or doubles tokens";
    case 'g': return "ranks that disagree";
    case 'h': return "staging refilled, results read too early";
    case 'i': return "page tables, slots, address widths";
    case 'j': return "recurrent states shared or stale";
    case 'k': return "sparse page selection";
    case 'l': return "experts and scales that see padding";
    case 'm': return "numerics that turn a slip into a disaster";
    case 'n': return "tensor-parallel shapes";
    case 'r': return "the field reports";
    case 'x': return "inventions of our own";
    default: return "";
  }
}

}  // namespace lockstep::faults
