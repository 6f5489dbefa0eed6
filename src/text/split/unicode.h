// What tokenizers ask of Unicode: classes of characters and the composed normal form (NFC).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace lockstep {

// Classes a character may be in, as bits of one byte.
enum CharClass : uint8_t {
  kLetter = 1,     // \p{L}
  kNumber = 2,     // \p{N}
  kMark = 4,       // \p{M}
  kSpace = 8,      // \s: White_Space
  kNewline = 16,   // [\r\n]
  kUpperRun = 32,  // [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]
  kLowerRun = 64,  // [\p{Ll}\p{Lm}\p{Lo}\p{M}]
};

// The CharClass bits of `code`; 0 for punctuation, symbols, controls and what is unassigned. O(1).
uint8_t classes_of(char32_t code);

// White_Space of the Unicode character database.
bool is_white_space(char32_t code);

// \w of the `regex` crate: Alphabetic, M, Nd, Pc, Join_Control. Decides where an added token stands alone.
bool is_word(char32_t code);

// `text` in NFC. Precondition: UTF-8. The view is `text` itself when that is quickly seen to be composed,
// `storage` otherwise.
// Cost:    O(bytes), and O(n log n) over runs of combining marks.
// Source:  Unicode Standard Annex #15.
std::string_view normalize_nfc(std::string_view text, std::string& storage);

}  // namespace lockstep
