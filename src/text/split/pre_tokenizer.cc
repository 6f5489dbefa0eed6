#include "text/split/pre_tokenizer.h"

#include "json/utf8.h"

namespace lockstep {
namespace {

Status unimplemented(const Json& value, std::string_view expectation) {
  return {Code::kUnimplemented, value.refuse(expectation).message()};
}

}  // namespace

Result<std::optional<Regex::Match>> PreTokenizer::Step::find(std::string_view text, size_t from) const {
  if (known) return std::optional(Regex::Match{from, scan_piece(*known, text, from)});
  if (regex) return regex->find(text, from);
  const size_t begin = text.find(literal, from);
  if (begin == std::string_view::npos) return std::optional<Regex::Match>();
  return std::optional(Regex::Match{begin, begin + literal.size()});
}

Status PreTokenizer::Step::split(std::string_view text, std::vector<std::string_view>& out) const {
  size_t done = 0;  // everything before is cut
  for (size_t from = 0; from < text.size();) {
    const std::optional<Regex::Match> match = LS_TRY(find(text, from));
    if (!match) break;
    if (keep_gaps && match->begin > done) out.push_back(text.substr(done, match->begin - done));
    if (keep_matches && match->end > match->begin)
      out.push_back(text.substr(match->begin, match->end - match->begin));
    done = match->end;
    // An empty match cuts where it stands; the search goes on behind the next character.
    from = match->end > match->begin || match->end == text.size()
               ? match->end
               : match->end + decode_utf8(text, match->end).size;
  }
  if (keep_gaps && done < text.size()) out.push_back(text.substr(done));
  return {};
}

Result<std::vector<std::string_view>> PreTokenizer::apply(const Step& step,
                                                          const std::vector<std::string_view>& pieces) {
  std::vector<std::string_view> out;
  for (const std::string_view piece : pieces) LS_TRY(step.split(piece, out));
  return out;
}

Result<std::vector<std::string_view>> PreTokenizer::split(std::string_view text,
                                                          std::deque<std::string>& storage) const {
  std::vector<std::string_view> pieces;
  if (!text.empty()) pieces.push_back(text);
  for (const Step& step : steps_) pieces = LS_TRY(apply(step, pieces));
  if (add_prefix_space_) {
    for (std::string_view& piece : pieces) {
      if (piece.front() == ' ') continue;
      piece = storage.emplace_back(concat(' ', piece));
    }
  }
  if (gpt2_regex_) {
    Step gpt2;
    gpt2.known = KnownPattern::kGpt2;
    pieces = LS_TRY(apply(gpt2, pieces));
  }
  return pieces;
}

Result<PreTokenizer::Step> PreTokenizer::parse_split(const Json& description, const RegexLimits& limits) {
  Step step;
  const Json pattern = LS_TRY(description.object("pattern"));
  if (const auto literal = pattern.find("String")) {
    step.literal = LS_TRY(literal->as_string());
    if (step.literal.empty()) return literal->refuse("a string that is not empty");
  } else {
    const std::string text = LS_TRY(pattern.string("Regex"));
    step.known = find_known_pattern(text);
    if (!step.known) step.regex = LS_TRY(Regex::compile(text, limits, pattern.where()));
  }
  const bool invert = LS_TRY(description.boolean_or("invert", false));
  const Json behavior = LS_TRY(description.value("behavior"));
  const std::string name = LS_TRY(behavior.as_string());
  if (name == "Removed") {
    step.keep_matches = invert;
    step.keep_gaps = !invert;
  } else if (name != "Isolated") {
    return unimplemented(behavior, "Isolated or Removed, the two that this engine has");
  }
  return step;
}

Status PreTokenizer::parse_step(const Json& description, const RegexLimits& limits) {
  const Json type = LS_TRY(description.value("type"));
  const std::string name = LS_TRY(type.as_string());
  if (byte_level_) return unimplemented(type, "no step after ByteLevel");
  if (name == "Split") {
    steps_.push_back(LS_TRY(parse_split(description, limits)));
  } else if (name == "ByteLevel") {
    byte_level_ = true;
    add_prefix_space_ = LS_TRY(description.boolean("add_prefix_space"));
    gpt2_regex_ = LS_TRY(description.boolean_or("use_regex", true));
  } else if (name == "Sequence") {
    const Json steps = LS_TRY(description.array("pretokenizers"));
    for (const Json& step : steps) LS_TRY(parse_step(step, limits));
  } else {
    return unimplemented(type, "Split, ByteLevel or Sequence, the ones that this engine has");
  }
  return {};
}

Result<PreTokenizer> PreTokenizer::parse(const Json& description, const RegexLimits& limits) {
  PreTokenizer out;
  LS_TRY(out.parse_step(description, limits));
  if (!out.byte_level_)
    return error(Code::kUnimplemented, description.where(),
                 " has no ByteLevel step; expected byte-level BPE, the one kind that this engine has");
  return out;
}

}  // namespace lockstep
