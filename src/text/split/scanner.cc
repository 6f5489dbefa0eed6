#include "text/split/scanner.h"

#include "json/utf8.h"
#include "text/split/unicode.h"

namespace lockstep {
namespace {

constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|)"
    R"(\s+(?!\S)|\s+)";
constexpr std::string_view kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kMiniMax =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+)"
    R"([\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";

// A match's end; kNone where an alternative does not match. No match is empty, so 0 is free.
constexpr size_t kNone = 0;

struct Char {
  uint8_t classes = 0;
  uint8_t size = 0;  // 0 at the end of the text
};

// The text of one piece, and the steps that the patterns share.
class Scan {
 public:
  explicit Scan(std::string_view text) : text_(text) {}

  Char at(size_t i) const {
    if (i >= text_.size()) return {};
    const auto byte = static_cast<unsigned char>(text_[i]);
    if (byte < 0x80) return {classes_of(byte), 1};
    const Utf8Char next = decode_utf8(text_, i);
    return {classes_of(next.code), next.size};
  }
  bool is(size_t i, char c) const { return i < text_.size() && text_[i] == c; }

  // [any]*
  size_t run(size_t i, unsigned any) const {
    for (Char c = at(i); (c.classes & any) != 0; c = at(i)) i += c.size;
    return i;
  }
  // [^none]*
  size_t run_without(size_t i, unsigned none) const {
    for (Char c = at(i); c.size > 0 && (c.classes & none) == 0; c = at(i)) i += c.size;
    return i;
  }
  // \p{N}{1,most}
  size_t digits(size_t i, int most) const {
    const size_t begin = i;
    for (Char c = at(i); most > 0 && (c.classes & kNumber) != 0; c = at(i), --most) i += c.size;
    return i == begin ? kNone : i;
  }

  // 's|'t|'re|'ve|'m|'ll|'d
  size_t contraction(size_t i, bool any_case) const {
    if (!is(i, '\'')) return kNone;
    const char a = letter(i + 1, any_case);
    const char b = letter(i + 2, any_case);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return i + 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return i + 3;
    // U+017F, the long s, folds to s.
    if (any_case && text_.substr(i + 1, 2) == "\xC5\xBF") return i + 3;
    return kNone;
  }

  // ` ?[^none]+`, then as many of `tail` as follow.
  size_t punctuation(size_t i, unsigned none, std::string_view tail) const {
    const size_t begin = i + (is(i, ' ') ? 1 : 0);
    size_t end = run_without(begin, none);
    if (end == begin) return kNone;
    while (end < text_.size() && tail.find(text_[end]) != std::string_view::npos) ++end;
    return end;
  }

  // \s*[\r\n]+ where `newlines`, then \s+(?!\S)|\s+.
  size_t white_space(size_t i, bool newlines) const {
    size_t end = i, last = i, after_newline = kNone;
    for (Char c = at(end); (c.classes & kSpace) != 0; c = at(end)) {
      last = end;
      end += c.size;
      if (c.classes & kNewline) after_newline = end;
    }
    if (newlines && after_newline != kNone) return after_newline;
    // The look-ahead gives the last space back to the word that follows, unless it is the only one.
    return end < text_.size() && last > i ? last : end;
  }

 private:
  char letter(size_t i, bool any_case) const {
    if (i >= text_.size()) return '\0';
    const char c = text_[i];
    return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }

  std::string_view text_;
};

size_t scan_gpt2(const Scan& scan, size_t at) {
  if (const size_t end = scan.contraction(at, false)) return end;
  const size_t begin = at + (scan.is(at, ' ') ? 1 : 0);
  const Char first = scan.at(begin);
  if (first.classes & kLetter) return scan.run(begin, kLetter);
  if (first.classes & kNumber) return scan.run(begin, kNumber);
  if (const size_t end = scan.punctuation(at, kSpace | kLetter | kNumber, "")) return end;
  return scan.white_space(at, false);
}

// Qwen, Qwen3.5 and Llama 3: one pattern but for what counts as a letter and how many digits go together.
size_t scan_cl100k(const Scan& scan, size_t at, unsigned letters, int digits) {
  if (const size_t end = scan.contraction(at, true)) return end;
  const Char first = scan.at(at);
  if ((first.classes & (kNewline | kLetter | kNumber)) == 0) {
    const size_t begin = at + first.size;
    const size_t end = scan.run(begin, letters);
    if (end > begin) return end;
  }
  if (first.classes & letters) return scan.run(at, letters);
  if (const size_t end = scan.digits(at, digits)) return end;
  if (const size_t end = scan.punctuation(at, kSpace | kNumber | letters, "\r\n")) return end;
  return scan.white_space(at, true);
}

// [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+ at `at`.
size_t upper_then_lower(const Scan& scan, size_t at) {
  size_t end = at, after_both = kNone;
  for (Char c = scan.at(end); (c.classes & kUpperRun) != 0; c = scan.at(end)) {
    end += c.size;
    if (c.classes & kLowerRun) after_both = end;
  }
  if (scan.at(end).classes & kLowerRun) return scan.run(end, kLowerRun);
  // The first run gives characters back until one of both classes can be the second run.
  return after_both;
}

// [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]* at `at`.
size_t upper_and_lower(const Scan& scan, size_t at) {
  const size_t end = scan.run(at, kUpperRun);
  return end == at ? kNone : scan.run(end, kLowerRun);
}

size_t scan_minimax(const Scan& scan, size_t at) {
  const Char first = scan.at(at);
  const bool may_lead = (first.classes & (kNewline | kLetter | kNumber)) == 0;
  for (const auto word : {upper_then_lower, upper_and_lower}) {
    size_t end = may_lead ? word(scan, at + first.size) : kNone;
    if (end == kNone) end = word(scan, at);
    if (end == kNone) continue;
    const size_t contracted = scan.contraction(end, true);
    return contracted != kNone ? contracted : end;
  }
  if (const size_t end = scan.digits(at, 3)) return end;
  if (const size_t end = scan.punctuation(at, kSpace | kLetter | kNumber, "\r\n/")) return end;
  return scan.white_space(at, true);
}

}  // namespace

std::string_view text_of(KnownPattern pattern) {
  switch (pattern) {
    case KnownPattern::kGpt2: return kGpt2;
    case KnownPattern::kQwen: return kQwen;
    case KnownPattern::kQwen35: return kQwen35;
    case KnownPattern::kLlama3: return kLlama3;
    case KnownPattern::kMiniMax: return kMiniMax;
  }
  return "";
}

std::optional<KnownPattern> find_known_pattern(std::string_view text) {
  for (const KnownPattern pattern : kKnownPatterns)
    if (text == text_of(pattern)) return pattern;
  return std::nullopt;
}

size_t scan_piece(KnownPattern pattern, std::string_view text, size_t at) {
  const Scan scan(text);
  switch (pattern) {
    case KnownPattern::kGpt2: return scan_gpt2(scan, at);
    case KnownPattern::kQwen: return scan_cl100k(scan, at, kLetter, 1);
    case KnownPattern::kQwen35: return scan_cl100k(scan, at, kLetter | kMark, 1);
    case KnownPattern::kLlama3: return scan_cl100k(scan, at, kLetter, 3);
    case KnownPattern::kMiniMax: return scan_minimax(scan, at);
  }
  return text.size();
}

}  // namespace lockstep
