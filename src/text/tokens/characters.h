// Where BPE begins in tokenizers that know characters: SentencePiece's.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/tokens/vocabulary.h"

namespace lockstep {

// A token per character; where the model has none, the tokens "<0xNN>" of its UTF-8 bytes; where it lacks one
// of those, the unknown token.
// Source:  `tokenizers` crate, models/bpe/model.rs, merge_word with byte_fallback.
class Characters {
 public:
  // `unknown`: the id of the unknown token, -1 without one. `fuse`: unknown characters in a row are one.
  Characters(const Vocabulary& vocabulary, int32_t unknown, bool fuse);

  // The ids of the symbols of `text`, in place of what `out` held. `of_model`: by id, what is a symbol.
  // Precondition: UTF-8. Errors: kInvalidArgument for a character that nothing stands for.
  Status split(std::string_view text, const Vocabulary& vocabulary, const std::vector<bool>& of_model,
               std::vector<int32_t>& out) const;

 private:
  bool append_bytes(std::string_view character, std::vector<int32_t>& out) const;

  std::array<int32_t, 256> bytes_{};  // -1: none
  int32_t unknown_;
  bool fuse_;
};

}  // namespace lockstep
