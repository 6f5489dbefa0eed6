// The pre_tokenizer of a tokenizer.json: cuts a text into the pieces within which BPE merges.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "json/json.h"
#include "text/split/regex.h"
#include "text/split/scanner.h"

namespace lockstep {

class PreTokenizer {
 public:
  // Reads ByteLevel alone, or a Sequence of Split steps (behavior Isolated or Removed) that ByteLevel ends.
  // Errors:  kUnimplemented for everything else, kInvalidArgument for a broken description.
  static Result<PreTokenizer> parse(const Json& description, const RegexLimits& limits);

  // The pieces of `text` in order, none empty. They point into `text`, or into `storage` where a space had to
  // be put before. Precondition: UTF-8.
  // Errors:  kResourceExhausted when a regular expression gives up.
  Result<std::vector<std::string_view>> split(std::string_view text, std::deque<std::string>& storage) const;

 private:
  // One step: a known pattern, or a regular expression, or a literal.
  struct Step {
    std::optional<KnownPattern> known;
    std::optional<Regex> regex;
    std::string literal;
    bool keep_matches = true;
    bool keep_gaps = true;

    Result<std::optional<Regex::Match>> find(std::string_view text, size_t from) const;
    Status split(std::string_view text, std::vector<std::string_view>& out) const;
  };

  static Result<Step> parse_split(const Json& description, const RegexLimits& limits);
  Status parse_step(const Json& description, const RegexLimits& limits);
  static Result<std::vector<std::string_view>> apply(const Step& step,
                                                     const std::vector<std::string_view>& pieces);

  std::vector<Step> steps_;
  bool byte_level_ = false;  // seen; nothing may follow it
  bool add_prefix_space_ = false;
  bool gpt2_regex_ = false;  // ByteLevel's own
};

}  // namespace lockstep
