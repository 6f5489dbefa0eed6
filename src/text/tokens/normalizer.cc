#include "text/tokens/normalizer.h"

#include "text/split/unicode.h"

namespace lockstep {
namespace {

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  for (size_t at = 0;;) {
    const size_t found = text.find(from, at);
    out += text.substr(at, found == text.npos ? text.npos : found - at);
    if (found == text.npos) return out;
    out += to;
    at = found + from.size();
  }
}

}  // namespace

Status Normalizer::add(const Json& description) {
  const Json type = LS_TRY(description.value("type"));
  const std::string name = LS_TRY(type.as_string());
  if (name == "Sequence") {
    const Json steps = LS_TRY(description.array("normalizers"));
    for (const Json& step : steps) LS_TRY(add(step));
    return {};
  }
  if (name == "NFC") return steps_.push_back({}), Status();
  if (name == "Prepend") {
    steps_.push_back({.kind = Kind::kPrepend, .from = {}, .to = LS_TRY(description.string("prepend"))});
    return {};
  }
  if (name != "Replace") {
    return {Code::kUnimplemented,
            type.refuse("NFC, Prepend, Replace or Sequence, the ones that this engine has").message()};
  }
  const Json pattern = LS_TRY(description.object("pattern"));
  const std::string from = LS_TRY(pattern.string("String"));
  if (from.empty()) return pattern.find("String")->refuse("a text to look for");
  steps_.push_back({.kind = Kind::kReplace, .from = from, .to = LS_TRY(description.string("content"))});
  return {};
}

Result<Normalizer> Normalizer::parse(const Json& description) {
  Normalizer normalizer;
  LS_TRY(normalizer.add(description));
  return normalizer;
}

std::string_view Normalizer::apply(std::string_view text, std::string& storage) const {
  std::string_view normal = text;
  for (const Step& step : steps_) {
    std::string next;
    switch (step.kind) {
      case Kind::kNfc: {
        const std::string_view composed = normalize_nfc(normal, next);
        if (composed.data() == normal.data()) continue;
        break;
      }
      case Kind::kPrepend:
        if (normal.empty()) continue;
        next = step.to;
        next += normal;
        break;
      case Kind::kReplace: next = replaced(normal, step.from, step.to); break;
    }
    storage = std::move(next);
    normal = storage;
  }
  return normal;
}

}  // namespace lockstep
