// Split patterns that no scanner knows, by PCRE2. Files spell patterns for Oniguruma; what the two engines
// read alike is translated, what they read differently is refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace lockstep {

// What one search may cost before it is given up.
struct RegexLimits {
  uint32_t max_steps = 10'000'000;    // PCRE2's match limit
  uint32_t max_depth = 250'000;       // of nested backtracking
  uint32_t max_heap_kib = 64 * 1024;  // of backtracking memory
};

// `pattern` from Oniguruma's syntax into PCRE2's.
// Errors:  kUnimplemented names what the two read differently: \w, \h, \b, scripts, set operations, inline
//          options, backward references.
Result<std::string> to_pcre2(std::string_view pattern, std::string_view who);

// A compiled pattern. Thread: any number of searches at a time.
class Regex {
 public:
  struct Match {
    size_t begin = 0;
    size_t end = 0;
  };

  // `who` begins every message.
  // Errors:  kInvalidArgument for a pattern that does not compile; kUnimplemented from to_pcre2.
  static Result<Regex> compile(std::string_view pattern, const RegexLimits& limits, std::string_view who);

  // The leftmost match in text[from..]; look-behind sees what lies before `from`. Precondition: UTF-8.
  // Errors:  kResourceExhausted names the pattern whose limit was hit.
  Result<std::optional<Match>> find(std::string_view text, size_t from) const;

 private:
  struct Compiled;
  explicit Regex(std::shared_ptr<const Compiled> compiled) : compiled_(std::move(compiled)) {}
  std::shared_ptr<const Compiled> compiled_;
};

}  // namespace lockstep
