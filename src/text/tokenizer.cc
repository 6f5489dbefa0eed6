#include "text/tokenizer.h"

#include <deque>

#include "json/utf8.h"
#include "text/tokenizer_state.h"

namespace lockstep {
namespace {

JsonLimits json_limits(const TokenizerLimits& limits) { return {.max_bytes = limits.max_file_bytes}; }

// One encode() in progress.
class Encoder {
 public:
  explicit Encoder(const TokenizerState& state) : state_(state) {}

  Status encode(std::string_view text, bool skip_special) {
    for (const auto& section : state_.raw_tokens.cut(text, skip_special)) {
      if (section.id >= 0) {
        ids_.push_back(section.id);
      } else {
        LS_TRY(encode_raw(section.text, skip_special));
      }
    }
    return {};
  }
  std::vector<int32_t>& ids() { return ids_; }

 private:
  // Text between raw tokens.
  Status encode_raw(std::string_view text, bool skip_special) {
    std::string storage;
    const std::string_view normal = normalized(state_, text, storage);
    for (const auto& section : state_.normalized_tokens.cut(normal, skip_special)) {
      if (section.id >= 0) {
        ids_.push_back(section.id);
      } else {
        LS_TRY(encode_plain(section.text));
      }
    }
    return {};
  }

  // Text without tokens.
  Status encode_plain(std::string_view text) {
    if (state_.characters) return encode_characters(text);
    std::deque<std::string> storage;
    const auto pieces = LS_TRY(state_.pre_tokenizer.split(text, storage));
    for (const std::string_view piece : pieces) LS_TRY(encode_piece(piece));
    return {};
  }

  Status encode_piece(std::string_view piece) {
    if (state_.ignore_merges && piece.size() <= Vocabulary::kMaxTokenBytes) {
      spelling_.clear();
      append_spelling(spelling_, piece);
      const auto id = state_.vocabulary.find(spelling_);
      if (id && state_.of_model[static_cast<size_t>(*id)]) return ids_.push_back(*id), Status();
    }
    const Status merged = state_.bpe.encode(piece, scratch_, ids_);
    return merged.ok() ? merged : error(merged.code(), state_.who, ": ", merged.message());
  }

  // All of a text is one piece.
  Status encode_characters(std::string_view text) {
    const Status split = state_.characters->split(text, state_.vocabulary, state_.of_model, scratch_.ids);
    if (!split.ok()) return error(split.code(), state_.who, ": ", split.message());
    state_.bpe.encode_symbols(scratch_.ids, scratch_, ids_);
    return {};
  }

  const TokenizerState& state_;
  Bpe::Scratch scratch_;
  std::string spelling_;
  std::vector<int32_t> ids_;
};

}  // namespace

Result<Tokenizer> Tokenizer::load(const std::string& path, const TokenizerLimits& limits) {
  const Json file = LS_TRY(parse_json_file(path, json_limits(limits)));
  auto state = LS_TRY(read_tokenizer(file, path, limits));
  return Tokenizer(std::make_shared<const TokenizerState>(std::move(state)));
}

Result<Tokenizer> Tokenizer::parse(std::string_view json, std::string_view who,
                                   const TokenizerLimits& limits) {
  const Json file = LS_TRY(parse_json(json, json_limits(limits), who));
  auto state = LS_TRY(read_tokenizer(file, who, limits));
  return Tokenizer(std::make_shared<const TokenizerState>(std::move(state)));
}

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  if (text.size() > state_->limits.max_text_bytes)
    return error(Code::kResourceExhausted, state_->who, ": the text has ", text.size(),
                 " bytes; expected at most ", state_->limits.max_text_bytes);
  if (const auto bad = find_invalid_utf8(text))
    return error(Code::kInvalidArgument, state_->who, ": byte ", *bad,
                 " of the text is not UTF-8; expected UTF-8 from end to end");
  Encoder encoder(*state_);
  auto& ids = encoder.ids();
  if (options.add_special_tokens) ids = state_->prefix;
  LS_TRY(encoder.encode(text, options.split_special_tokens));
  if (options.add_special_tokens) ids.insert(ids.end(), state_->suffix.begin(), state_->suffix.end());
  return std::move(ids);
}

Result<std::string> Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string bytes;
  for (const int32_t id : ids) {
    if (!contains(id))
      return error(Code::kInvalidArgument, state_->who, ": id ", id, " names no token; expected an id in 0..",
                   vocab_size() - 1);
    if (!skip_special || !is_special(id)) bytes += token_bytes(id);
  }
  std::string_view kept = bytes;
  if (state_->strip_space && kept.starts_with(' ')) kept.remove_prefix(1);
  std::string text;
  append_lossy_utf8(text, kept);
  return text;
}

int32_t Tokenizer::vocab_size() const { return state_->vocabulary.size(); }

std::string_view Tokenizer::token_bytes(int32_t id) const { return state_->vocabulary.bytes(id); }

std::string_view Tokenizer::token_content(int32_t id) const { return state_->vocabulary.content(id); }

bool Tokenizer::contains(int32_t id) const { return state_->vocabulary.contains(id); }

std::optional<int32_t> Tokenizer::id_of(std::string_view content) const {
  return state_->vocabulary.find(content);
}

bool Tokenizer::strips_space() const { return state_->strip_space; }

bool Tokenizer::is_special(int32_t id) const {
  return contains(id) && state_->special[static_cast<size_t>(id)];
}

}  // namespace lockstep
