// Text to token ids and back, as the `tokenizers` crate does it for BPE of bytes and of characters.
//
//   const Tokenizer tokenizer = LS_TRY(Tokenizer::load("model/tokenizer.json"));
//   const std::vector<int32_t> ids = LS_TRY(tokenizer.encode("Once upon a time", {}));
//   const std::string text = LS_TRY(tokenizer.decode(ids, true));
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "text/split/regex.h"

namespace lockstep {

struct TokenizerLimits {
  size_t max_file_bytes = size_t{128} << 20;
  size_t max_text_bytes = size_t{256}
                          << 20;  // of one encode(); about 40 bytes of memory each in one long piece
  RegexLimits regex = {};         // of split patterns that no scanner knows
};

struct EncodeOptions {
  bool add_special_tokens = true;     // run the file's template: BOS and the like. Off for text that a chat
                                      // template made, which holds them already
  bool split_special_tokens = false;  // special tokens in the text are text: for text nobody vouches for
};

struct TokenizerState;

// A tokenizer.json. Copying is cheap.
//
// Reads:   model BPE without dropout, prefixes and suffixes; normalizers NFC, Prepend and Replace;
//          pre-tokenizers that end in ByteLevel (split/pre_tokenizer.h), or none where the model falls back
//          to bytes (SentencePiece's); post-processors ByteLevel and TemplateProcessing; decoder ByteLevel,
//          or Replace, ByteFallback, Fuse and Strip in a row. `truncation` and `padding` are not applied:
//          lengths are the engine's business.
// Errors:  kUnimplemented for what it cannot do, kInvalidArgument for a file or text that breaks a rule,
//          kResourceExhausted beyond a limit.
// Thread:  any number of users.
class Tokenizer {
 public:
  // Reads the file at `path`, which also begins every message.
  // Cost:    about 0.5 s for 150,000 tokens and merges.
  static Result<Tokenizer> load(const std::string& path, const TokenizerLimits& limits = {});
  // The same from the bytes of a file; `who` begins every message.
  static Result<Tokenizer> parse(std::string_view json, std::string_view who,
                                 const TokenizerLimits& limits = {});

  // The ids of `text`.
  // Errors:  kInvalidArgument with the offset of the first byte that is not UTF-8, or for a byte that the
  //          vocabulary lacks.
  // Cost:    O(n log n) at worst, about 0.1 us per byte of prose.
  Result<std::vector<int32_t>> encode(std::string_view text, const EncodeOptions& options) const;

  // The text of `ids`; what is not UTF-8 reads as U+FFFD. Without its first space where strips_space().
  // Errors:  kInvalidArgument for an id that names no token.
  Result<std::string> decode(std::span<const int32_t> ids, bool skip_special) const;

  // The highest id + 1. Embedding tables may have more rows; those beyond name no token.
  int32_t vocab_size() const;
  // What `id` stands for in a text, maybe a part of a character; empty where it names no token.
  std::string_view token_bytes(int32_t id) const;
  // As the file spells it: "Ġthe".
  std::string_view token_content(int32_t id) const;
  bool contains(int32_t id) const;
  // The id of a token as the file spells it, added or not.
  std::optional<int32_t> id_of(std::string_view content) const;
  bool is_special(int32_t id) const;
  // Whether encoding puts a space before a text, which decoding takes away again.
  bool strips_space() const;

 private:
  explicit Tokenizer(std::shared_ptr<const TokenizerState> state) : state_(std::move(state)) {}
  std::shared_ptr<const TokenizerState> state_;
};

}  // namespace lockstep
