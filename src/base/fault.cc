#include "base/fault.h"

#include <array>

namespace lockstep {
namespace {

constexpr std::array<std::string_view, 8> kMoments = {"plan",   "bind",  "capture", "launch",
                                                      "replay", "group", "commit",  "poison"};

}  // namespace

std::string_view name_of(Moment moment) { return kMoments[static_cast<size_t>(moment)]; }

std::optional<Moment> moment_of(std::string_view name) {
  for (size_t i = 0; i < kMoments.size(); ++i) {
    if (kMoments[i] == name) return static_cast<Moment>(i);
  }
  return std::nullopt;
}

std::string Fault::message() const {
  std::string text = step > 0 ? concat("step ", step, ": ", check) : check;
  if (!consumer.empty()) text += concat(" ", consumer, ":");
  if (!field.empty()) text += concat(" ", field);
  if (row >= 0) text += concat("[", row, "]");
  return concat(text, " is ", found, "; expected ", expected);
}

Status broken(Fault fault) {
  if (!rule_is_on(fault.check)) return {};
  std::string message = fault.message();
  return Status(Code::kInternal, std::move(message), std::make_shared<const Fault>(std::move(fault)));
}

}  // namespace lockstep
