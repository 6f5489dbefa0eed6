// Tokens by id and by content, and the byte alphabet in which byte-level tokenizers spell them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"

namespace lockstep {

// The character that spells `byte`: itself where printable in Latin-1, else one from U+0100 on, so that space
// is U+0120. Source: GPT-2, bytes_to_unicode.
char32_t char_of_byte(uint8_t byte);
// The byte that `code` spells, if it is of the alphabet.
std::optional<uint8_t> byte_of_char(char32_t code);
// Appends bytes spelt in the alphabet.
void append_spelling(std::string& out, std::string_view bytes);

// How a tokenizer.json spells what its tokens stand for.
enum class Spelling : uint8_t {
  kByteAlphabet,  // every byte a character of the alphabet above
  kCharacters,    // as it is, U+2581 for a space, "<0x0A>" for a single byte
};

// All tokens of one tokenizer, added ones included. Ids may have holes.
class Vocabulary {
 public:
  explicit Vocabulary(Spelling spelling = Spelling::kByteAlphabet) : spelling_(spelling) {}

  static constexpr int32_t kMaxIds = 1 << 21;  // bounds what a file's largest id can make us allocate
  static constexpr size_t kMaxTokenBytes = 4096;

  // `who` begins every message.
  // Errors:  kInvalidArgument for an id or a content that another token has; kResourceExhausted beyond the
  //          limits above. The same pair twice is fine: added tokens may be listed in the model too.
  Status add(std::string_view content, int64_t id, std::string_view who);

  int32_t size() const { return static_cast<int32_t>(by_id_.size()); }  // the highest id + 1
  bool contains(int32_t id) const { return id >= 0 && id < size() && by_id_[id].used; }
  std::optional<int32_t> find(std::string_view content) const;
  // What the token stands for in a text; empty for holes. As the `tokenizers` crate decodes: in the byte
  // alphabet when every character is of it, else as it is, added or not.
  std::string_view bytes(int32_t id) const;
  // As the file spells it.
  std::string_view content(int32_t id) const;

 private:
  struct Token {
    std::string_view content;
    std::string_view bytes;
    bool used = false;
  };
  Spelling spelling_;
  std::deque<std::string> pool_;  // what the views point into; elements never move
  std::vector<Token> by_id_;
  std::unordered_map<std::string_view, int32_t> by_content_;
};

}  // namespace lockstep
