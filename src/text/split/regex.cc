#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/split/regex.h"

#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "json/utf8.h"

namespace lockstep {
namespace {

constexpr size_t kMaxPatternBytes = 8192;
constexpr uint32_t kMaxGroupDepth = 100;

// The general categories; PCRE2 and Oniguruma agree on these, but not on what a script's name covers.
constexpr std::string_view kCategories[] = {"L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me",
                                            "N",  "Nd", "Nl", "No", "P",  "Pc", "Pd", "Ps", "Pe", "Pi",
                                            "Pf", "Po", "S",  "Sm", "Sc", "Sk", "So", "Z",  "Zs", "Zl",
                                            "Zp", "C",  "Cc", "Cf", "Cs", "Co", "Cn"};

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; }

// Walks a pattern once, copying what both engines read alike.
class Translator {
 public:
  Translator(std::string_view pattern, std::string_view who) : pattern_(pattern), who_(who) {}

  Result<std::string> translate() {
    while (i_ < pattern_.size()) {
      const char c = pattern_[i_];
      if (c == '\\') {
        LS_TRY(escape());
      } else if (in_set_) {
        LS_TRY(set_char());
      } else if (c == '[') {
        LS_TRY(open_set());
      } else if (c == '(') {
        LS_TRY(group());
      } else if (c == '{') {
        LS_TRY(count());
      } else {
        take(1);
      }
    }
    return std::move(out_);
  }

 private:
  Status refuse(size_t bytes) const {
    return error(Code::kUnimplemented, who_, ": pattern ", excerpt(pattern_, 200), " has ",
                 excerpt(pattern_.substr(i_, bytes), 20), " at byte ", i_,
                 ", which PCRE2 and Oniguruma read differently; expected plain groups, sets, "
                 "counts, \\s, \\d and general categories");
  }
  char peek(size_t ahead) const { return i_ + ahead < pattern_.size() ? pattern_[i_ + ahead] : '\0'; }
  void take(size_t bytes) {
    out_ += pattern_.substr(i_, bytes);
    i_ += bytes;
  }

  Status escape() {
    const char c = peek(1);
    if (c == 's' || c == 'S') {
      // PCRE2's own \s takes in U+180E.
      out_ += c == 's' ? "\\p{White_Space}" : "\\P{White_Space}";
      i_ += 2;
      return {};
    }
    if (c == 'p' || c == 'P') return category();
    if (c == 'u') return code_point();
    const bool same = std::string_view("dDrntfae").find(c) != std::string_view::npos;
    const bool literal = std::ispunct(static_cast<unsigned char>(c)) != 0 || c == ' ';
    if (!same && !literal) return refuse(2);
    take(2);
    return {};
  }

  Status category() {
    const size_t close = pattern_.find('}', i_);
    if (peek(2) != '{' || close == std::string_view::npos) return refuse(3);
    const std::string_view name = pattern_.substr(i_ + 3, close - i_ - 3);
    if (std::find(std::begin(kCategories), std::end(kCategories), name) == std::end(kCategories))
      return refuse(close + 1 - i_);
    take(close + 1 - i_);
    return {};
  }

  Status code_point() {  // \uHHHH
    const std::string_view hex = pattern_.substr(i_ + 2, 4);
    if (hex.size() < 4 || !std::all_of(hex.begin(), hex.end(), is_hex)) return refuse(6);
    out_ += concat("\\x{", hex, '}');
    i_ += 6;
    return {};
  }

  Status open_set() {
    const size_t head = peek(1) == '^' ? 2 : 1;
    if (peek(head) == ']') return refuse(head + 1);
    take(head);
    in_set_ = true;
    return {};
  }

  Status set_char() {
    const char c = pattern_[i_];
    if (c == '[' || (c == '&' && peek(1) == '&')) return refuse(2);
    if (c == ']') in_set_ = false;
    take(1);
    return {};
  }

  Status group() {
    if (peek(1) == '*') return refuse(2);
    if (peek(1) != '?') return take(1), Status();
    for (const std::string_view head : {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"})
      if (pattern_.substr(i_, head.size()) == head) return take(head.size()), Status();
    return refuse(4);
  }

  Status count() {  // {n}, {n,}, {n,m}
    size_t end = i_ + 1;
    while (end < pattern_.size() && is_digit(pattern_[end])) ++end;
    const bool low = end > i_ + 1;
    const bool comma = end < pattern_.size() && pattern_[end] == ',';
    if (comma) ++end;
    while (comma && end < pattern_.size() && is_digit(pattern_[end])) ++end;
    const size_t size = end + 1 - i_;
    if (!low || end >= pattern_.size() || pattern_[end] != '}') return refuse(size);
    // Oniguruma reads {n}? as optional and {n,m}+ as repeated.
    if (peek(size) == '+' || (peek(size) == '?' && !comma)) return refuse(size + 1);
    take(size);
    return {};
  }

  std::string_view pattern_;
  std::string_view who_;
  std::string out_;
  size_t i_ = 0;
  bool in_set_ = false;
};

std::string pcre2_message(int code) {
  std::array<PCRE2_UCHAR, 128> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

struct CodeDeleter {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct CompileContextDeleter {
  void operator()(pcre2_compile_context* context) const { pcre2_compile_context_free(context); }
};
struct MatchContextDeleter {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};
struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};

}  // namespace

struct Regex::Compiled {
  std::unique_ptr<pcre2_code, CodeDeleter> code;
  std::unique_ptr<pcre2_match_context, MatchContextDeleter> context;
  std::string pattern;
  std::string who;
};

Result<std::string> to_pcre2(std::string_view pattern, std::string_view who) {
  return Translator(pattern, who).translate();
}

Result<Regex> Regex::compile(std::string_view pattern, const RegexLimits& limits, std::string_view who) {
  if (pattern.size() > kMaxPatternBytes)
    return error(Code::kResourceExhausted, who, ": the pattern has ", pattern.size(),
                 " bytes; expected at most ", kMaxPatternBytes);
  const std::string translated = LS_TRY(to_pcre2(pattern, who));
  const std::unique_ptr<pcre2_compile_context, CompileContextDeleter> context(
      pcre2_compile_context_create(nullptr));
  auto compiled = std::make_shared<Compiled>();
  compiled->context.reset(pcre2_match_context_create(nullptr));
  if (!context || !compiled->context)
    return error(Code::kResourceExhausted, who, ": PCRE2 has no memory for pattern ", excerpt(pattern, 200));
  pcre2_set_parens_nest_limit(context.get(), kMaxGroupDepth);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int code = 0;
  PCRE2_SIZE offset = 0;
  // Oniguruma's ^ and $ match at every line.
  compiled->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                     PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code,
                                     &offset, context.get()));
  if (!compiled->code)
    return error(Code::kInvalidArgument, who, ": pattern ", excerpt(pattern, 200), " does not compile (",
                 pcre2_message(code), "); expected a regular expression");
  pcre2_set_match_limit(compiled->context.get(), limits.max_steps);
  pcre2_set_depth_limit(compiled->context.get(), limits.max_depth);
  pcre2_set_heap_limit(compiled->context.get(), limits.max_heap_kib);
  compiled->pattern = pattern;
  compiled->who = who;
  return Regex(std::move(compiled));
}

Result<std::optional<Regex::Match>> Regex::find(std::string_view text, size_t from) const {
  const std::unique_ptr<pcre2_match_data, MatchDataDeleter> data(pcre2_match_data_create(1, nullptr));
  if (!data) return error(Code::kResourceExhausted, compiled_->who, ": PCRE2 has no memory for a match");
  const int rc = pcre2_match(compiled_->code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                             from, PCRE2_NO_UTF_CHECK, data.get(), compiled_->context.get());
  if (rc == PCRE2_ERROR_NOMATCH) return std::optional<Match>();
  if (rc < 0)
    return error(Code::kResourceExhausted, compiled_->who, ": pattern ", excerpt(compiled_->pattern, 200),
                 " gave up on a text of ", text.size(), " bytes (", pcre2_message(rc),
                 "); expected a pattern that needs less backtracking");
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(data.get());
  return std::optional(Match{bounds[0], bounds[1]});
}

}  // namespace lockstep
