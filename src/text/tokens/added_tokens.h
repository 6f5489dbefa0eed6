// Added tokens: those that are found in a text as they stand, before anything is split or merged.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace lockstep {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;      // control: skipped by decode where asked
  bool single_word = false;  // only between characters that are no word characters
  bool lstrip = false;       // takes the white space before with it
  bool rstrip = false;       // takes the white space behind with it
  bool normalized = false;   // matched in the normalized text
};

// Finds added tokens, leftmost first, longest among those that begin at one place.
// Source:  `tokenizers` crate, added_vocabulary.rs; equality with it is tested.
class AddedTokenMatcher {
 public:
  static constexpr size_t kMaxContentBytes = 1024;  // bounds the work per byte of text

  // A stretch of text between tokens (id -1), or one token (text empty).
  struct Section {
    int32_t id = -1;
    std::string_view text;
  };

  // `pattern` is the content, normalized where the token says so. A pattern given twice means the first
  // token. Precondition: 1 <= pattern.size() <= kMaxContentBytes.
  void add(std::string_view pattern, const AddedToken& token);

  // Cuts `text` into tokens and what lies between, in order. `skip_special`: special tokens are text.
  // Cost:    O(bytes * longest pattern) at worst, O(bytes) where few places look like a token.
  std::vector<Section> cut(std::string_view text, bool skip_special) const;

 private:
  struct Found {
    size_t end = 0;  // 0: none
    size_t token = 0;
  };
  Found longest_at(std::string_view text, size_t at) const;

  std::vector<AddedToken> tokens_;
  std::array<bool, 256> may_begin_{};             // by first byte: most places are no token
  std::unordered_map<uint64_t, uint32_t> edges_;  // a trie: node << 8 | byte -> node; node 0 is the root
  std::vector<int64_t> token_of_node_ = {-1};
};

}  // namespace lockstep
