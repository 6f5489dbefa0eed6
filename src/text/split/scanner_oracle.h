// For tests and fuzzers: what PCRE2 makes of a pattern that a scanner was written for.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "json/utf8.h"
#include "text/split/regex.h"
#include "text/split/scanner.h"
#include "text/split/unicode.h"

namespace lockstep {

inline std::vector<std::string_view> pieces_by_scanner(KnownPattern pattern, std::string_view text) {
  std::vector<std::string_view> pieces;
  for (size_t at = 0; at < text.size();) {
    const size_t end = scan_piece(pattern, text, at);
    LS_CHECK(end > at && end <= text.size(), "a piece from ", at, " to ", end);
    pieces.push_back(text.substr(at, end - at));
    at = end;
  }
  return pieces;
}

inline std::vector<std::string_view> pieces_by_regex(const Regex& regex, std::string_view text) {
  std::vector<std::string_view> pieces;
  for (size_t at = 0; at < text.size();) {
    const auto found = regex.find(text, at);
    LS_CHECK(found.ok(), found.status().message());
    const auto match = *found;
    LS_CHECK(match && match->begin == at && match->end > at, "no match at ", at);
    pieces.push_back(text.substr(at, match->end - at));
    at = match->end;
  }
  return pieces;
}

inline Regex regex_of(KnownPattern pattern) {
  Result<Regex> regex = Regex::compile(text_of(pattern), {}, "oracle");
  LS_CHECK(regex.ok(), regex.status().message());
  return std::move(regex).value();
}

// Whether PCRE2 and utf8proc put a character into the same classes. They carry different versions of Unicode,
// and what one of them does not know yet proves nothing about a scanner.
class ClassAgreement {
 public:
  bool operator()(char32_t code) const {
    std::string text;
    append_utf8(text, code);
    for (const auto& [regex, bits] : classes_) {
      const auto found = regex.find(text, 0);
      if (!found.ok() || found->has_value() != ((classes_of(code) & bits) != 0)) return false;
    }
    return true;
  }

 private:
  static Regex compile(std::string_view pattern) {
    Result<Regex> regex = Regex::compile(pattern, {}, "oracle");
    LS_CHECK(regex.ok(), regex.status().message());
    return std::move(regex).value();
  }
  std::vector<std::pair<Regex, uint8_t>> classes_ = {
      {compile(R"(\p{L})"), kLetter},
      {compile(R"(\p{N})"), kNumber},
      {compile(R"(\p{M})"), kMark},
      {compile(R"(\s)"), kSpace},
      {compile(R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])"), kUpperRun},
      {compile(R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])"), kLowerRun}};
};

}  // namespace lockstep
