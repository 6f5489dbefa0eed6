// Hand-written scanners for the split patterns of the known model families. A scanner stands in for a pattern
// only when the tokenizer's file spells that pattern exactly; regex.h takes every other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace lockstep {

enum class KnownPattern : uint8_t { kGpt2, kQwen, kQwen35, kLlama3, kMiniMax };
inline constexpr KnownPattern kKnownPatterns[] = {KnownPattern::kGpt2, KnownPattern::kQwen,
                                                  KnownPattern::kQwen35, KnownPattern::kLlama3,
                                                  KnownPattern::kMiniMax};

// The pattern as tokenizer.json spells it, in Oniguruma's syntax.
std::string_view text_of(KnownPattern pattern);

// The scanner for a pattern spelt `text`, if there is one.
std::optional<KnownPattern> find_known_pattern(std::string_view text);

// Where the match that begins at text[at] ends. These patterns match at every place: the result is beyond
// `at`. Precondition: `text` is UTF-8, `at` begins a character and is < text.size(). Cost:    O(match), plus
// what a look-ahead needs; a whole text is linear.
size_t scan_piece(KnownPattern pattern, std::string_view text, size_t at);

}  // namespace lockstep
