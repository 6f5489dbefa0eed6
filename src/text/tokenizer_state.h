// What a tokenizer.json comes down to; shared by reading it (tokenizer_load.cc) and using it (tokenizer.cc).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "json/json.h"
#include "text/split/pre_tokenizer.h"
#include "text/tokenizer.h"
#include "text/tokens/added_tokens.h"
#include "text/tokens/bpe.h"
#include "text/tokens/characters.h"
#include "text/tokens/normalizer.h"
#include "text/tokens/vocabulary.h"

namespace lockstep {

struct TokenizerState {
  std::string who;  // begins every message
  TokenizerLimits limits;
  Vocabulary vocabulary;
  std::vector<bool> special;   // by id
  std::vector<bool> of_model;  // by id: listed in model.vocab, not only added
  Bpe bpe;
  bool ignore_merges = false;  // a piece that is a token of the model is that token
  std::optional<Normalizer> normalizer;
  AddedTokenMatcher raw_tokens;         // matched in the text as it comes
  AddedTokenMatcher normalized_tokens;  // matched in the normalized text between
  PreTokenizer pre_tokenizer;
  std::optional<Characters> characters;  // nothing: pieces begin as bytes
  bool strip_space = false;              // decoding takes one space away in front
  std::vector<int32_t> prefix;           // what the template puts before and behind
  std::vector<int32_t> suffix;
};

// `text` as the file's normalizer has it; in `storage` where that is another text.
inline std::string_view normalized(const TokenizerState& state, std::string_view text, std::string& storage) {
  return state.normalizer ? state.normalizer->apply(text, storage) : text;
}

// Reads a whole tokenizer.json.
Result<TokenizerState> read_tokenizer(const Json& file, std::string_view who, const TokenizerLimits& limits);

}  // namespace lockstep
