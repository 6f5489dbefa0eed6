// What a tokenizer.json comes down to; shared by reading it (tokenizer_load.cc) and using it (tokenizer.cc).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "json/json.h"
#include "text/split/pre_tokenizer.h"
#include "text/tokenizer.h"
#include "text/tokens/added_tokens.h"
#include "text/tokens/bpe.h"
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
  bool nfc = false;
  AddedTokenMatcher raw_tokens;         // matched in the text as it comes
  AddedTokenMatcher normalized_tokens;  // matched in the normalized text between
  PreTokenizer pre_tokenizer;
  std::vector<int32_t> prefix;  // what the template puts before and behind
  std::vector<int32_t> suffix;
};

// Reads a whole tokenizer.json.
Result<TokenizerState> read_tokenizer(const Json& file, std::string_view who, const TokenizerLimits& limits);

}  // namespace lockstep
