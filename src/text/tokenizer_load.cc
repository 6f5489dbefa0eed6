#include <algorithm>

#include "json/utf8.h"
#include "text/tokenizer_state.h"

namespace lockstep {
namespace {

constexpr std::string_view kKind = "BPE of bytes, or of characters with byte_fallback";

Status unimplemented(const Json& value, std::string_view expectation) {
  return {Code::kUnimplemented, value.refuse(expectation).message()};
}

// The `type` of a part of the file.
Result<Json> type_of(const Json& part) {
  const Json type = LS_TRY(part.value("type"));
  if (!type.is_string()) return type.refuse("a string");
  return type;
}

bool is(const Json& type, std::string_view name) { return type.as_string_view().value() == name; }

// --- model
// --------------------------------------------------------------------------------------------------

// Refuses what would change the merging without a word.
Status check_model_options(const Json& model) {
  const std::string type = LS_TRY(model.string_or("type", "BPE"));
  if (type != "BPE") return unimplemented(*model.find("type"), kKind);
  if (const auto dropout = model.find("dropout")) {
    const double rate = LS_TRY(dropout->as_number());
    if (rate != 0) return unimplemented(*dropout, "no dropout");
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const std::string affix = LS_TRY(model.string_or(key, ""));
    if (!affix.empty()) return unimplemented(*model.find(key), kKind);
  }
  return {};
}

// The two tokens of a merge: ["a", "b"], or "a b".
Result<std::pair<std::string_view, std::string_view>> halves_of(const Json& merge) {
  if (merge.is_array() && merge.size() == 2) {
    const std::string_view left = LS_TRY(merge[0].as_string_view());
    const std::string_view right = LS_TRY(merge[1].as_string_view());
    return std::pair(left, right);
  }
  if (!merge.is_string()) return merge.refuse("two tokens");
  const std::string_view text = merge.as_string_view().value();
  const size_t space = text.find(' ');
  if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos)
    return merge.refuse("two tokens with one space between");
  return std::pair(text.substr(0, space), text.substr(space + 1));
}

Status read_merges(const Json& model, TokenizerState& state) {
  const Json merges = LS_TRY(model.array("merges"));
  if (merges.size() > Bpe::kMaxMerges)
    return error(Code::kResourceExhausted, merges.where(), " has ", merges.size(),
                 " entries; expected at most ", Bpe::kMaxMerges);
  std::string joined;
  for (const Json& merge : merges) {
    if (merge.is_string() && merge.as_string_view().value().starts_with("#version")) continue;
    const auto [left, right] = LS_TRY(halves_of(merge));
    joined.assign(left).append(right);
    const auto left_id = state.vocabulary.find(left);
    const auto right_id = state.vocabulary.find(right);
    const auto merged_id = state.vocabulary.find(joined);
    if (!left_id || !right_id || !merged_id)
      return error(Code::kInvalidArgument, merge.where(), " merges ", excerpt(left, 64), " and ",
                   excerpt(right, 64), "; expected both and what they join to in model.vocab");
    state.bpe.add_merge(*left_id, *right_id, *merged_id);
  }
  state.bpe.finish();
  return {};
}

Status read_model(const Json& model, TokenizerState& state) {
  LS_TRY(check_model_options(model));
  const Json vocab = LS_TRY(model.object("vocab"));
  for (const Json& token : vocab) {
    const int64_t id = LS_TRY(token.as_integer());
    LS_TRY(state.vocabulary.add(token.key(), id, vocab.where()));
  }
  state.of_model.resize(static_cast<size_t>(state.vocabulary.size()));
  for (int32_t id = 0; id < state.vocabulary.size(); ++id)
    state.of_model[static_cast<size_t>(id)] = state.vocabulary.contains(id);
  state.bpe.read_bytes(state.vocabulary);
  state.ignore_merges = LS_TRY(model.boolean_or("ignore_merges", false));
  return read_merges(model, state);
}

// --- added tokens
// -------------------------------------------------------------------------------------------

Result<AddedToken> read_added_token(const Json& entry) {
  AddedToken token;
  token.id = static_cast<int32_t>(LS_TRY(entry.integer("id", 0, Vocabulary::kMaxIds - 1)));
  token.content = LS_TRY(entry.string("content"));
  token.special = LS_TRY(entry.boolean("special"));
  token.single_word = LS_TRY(entry.boolean("single_word"));
  token.lstrip = LS_TRY(entry.boolean("lstrip"));
  token.rstrip = LS_TRY(entry.boolean("rstrip"));
  token.normalized = LS_TRY(entry.boolean("normalized"));
  return token;
}

Status add_token(const AddedToken& token, const Json& entry, TokenizerState& state) {
  std::string storage;
  const std::string_view pattern =
      token.normalized ? normalized(state, token.content, storage) : token.content;
  if (pattern.empty() || pattern.size() > AddedTokenMatcher::kMaxContentBytes)
    return error(Code::kInvalidArgument, entry.where(), ".content has ", pattern.size(),
                 " bytes; expected 1..", AddedTokenMatcher::kMaxContentBytes);
  LS_TRY(state.vocabulary.add(token.content, token.id, entry.where()));
  (token.normalized ? state.normalized_tokens : state.raw_tokens).add(pattern, token);
  return {};
}

Status read_added_tokens(const Json& file, TokenizerState& state) {
  const auto entries = file.find("added_tokens");
  if (!entries) return {};
  if (!entries->is_array()) return entries->refuse("an array");
  std::vector<AddedToken> tokens;
  for (const Json& entry : *entries) tokens.push_back(LS_TRY(read_added_token(entry)));
  // Where two tokens have one pattern the first wins, and the special ones go first.
  for (const bool special : {true, false})
    for (size_t i = 0; i < tokens.size(); ++i)
      if (tokens[i].special == special) LS_TRY(add_token(tokens[i], (*entries)[i], state));
  state.special.assign(static_cast<size_t>(state.vocabulary.size()), false);
  for (const AddedToken& token : tokens)
    if (token.special) state.special[static_cast<size_t>(token.id)] = true;
  return {};
}

// --- normalizer, post-processor, decoder
// --------------------------------------------------------------------

// Appends the ids of a special token that the template names.
Status append_special(const Json& post, const Json& item, std::vector<int32_t>& out,
                      const Vocabulary& vocabulary) {
  const std::string name = LS_TRY(item.string("id"));
  const Json tokens = LS_TRY(post.object("special_tokens"));
  const Json token = LS_TRY(tokens.object(name));
  const Json ids = LS_TRY(token.array("ids"));
  for (const Json& id : ids) {
    const int64_t value = LS_TRY(id.as_integer(0, vocabulary.size() - 1));
    if (!vocabulary.contains(static_cast<int32_t>(value))) return id.refuse("the id of a token");
    out.push_back(static_cast<int32_t>(value));
  }
  return {};
}

Status read_template(const Json& post, TokenizerState& state) {
  const Json single = LS_TRY(post.array("single"));
  bool behind = false;
  for (const Json& item : single) {
    if (const auto special = item.find("SpecialToken")) {
      LS_TRY(append_special(post, *special, behind ? state.suffix : state.prefix, state.vocabulary));
      continue;
    }
    const Json sequence = LS_TRY(item.object("Sequence"));
    const std::string name = LS_TRY(sequence.string("id"));
    if (behind || name != "A") return unimplemented(single, "sequence A once");
    behind = true;
  }
  if (!behind) return unimplemented(single, "sequence A once");
  return {};
}

// `seen` counts the templates: a second one would wrap the first.
Status read_post_processor(const Json& post, TokenizerState& state, int& seen) {
  const Json type = LS_TRY(type_of(post));
  if (is(type, "ByteLevel")) return {};  // moves offsets only
  if (is(type, "Sequence")) {
    const Json steps = LS_TRY(post.array("processors"));
    for (const Json& step : steps) LS_TRY(read_post_processor(step, state, seen));
    return {};
  }
  if (!is(type, "TemplateProcessing") || seen++ > 0)
    return unimplemented(type, "ByteLevel, at most one TemplateProcessing, or a Sequence of them");
  return read_template(post, state);
}

Status read_decoder(const Json& decoder) {
  const Json type = LS_TRY(type_of(decoder));
  if (is(type, "Sequence")) {
    const Json steps = LS_TRY(decoder.array("decoders"));
    if (steps.size() == 1) return read_decoder(steps[0]);
  }
  return is(type, "ByteLevel") ? Status() : unimplemented(type, "ByteLevel, the one that this engine has");
}

// Of tokens that are characters: what spells a space becomes one, bytes join, and maybe the first space goes.
Status read_character_decoder(const Json& decoder, TokenizerState& state) {
  const Json steps = LS_TRY(decoder.array("decoders"));
  constexpr std::string_view kSteps[] = {"Replace", "ByteFallback", "Fuse", "Strip"};
  constexpr std::string_view kExpected = "Replace, ByteFallback, Fuse and maybe Strip of one space, in a row";
  for (size_t i = 0; i < std::max<size_t>(steps.size(), 3); ++i) {
    if (i >= steps.size() || i >= std::size(kSteps)) return unimplemented(steps, kExpected);
    const Json type = LS_TRY(type_of(steps[i]));
    if (!is(type, kSteps[i])) return unimplemented(type, kExpected);
  }
  const Json space = LS_TRY(steps[0].object("pattern"));
  const std::string from = LS_TRY(space.string("String")), to = LS_TRY(steps[0].string("content"));
  if (from != "\u2581" || to != " ") return unimplemented(steps[0], "U+2581 replaced by a space");
  if (steps.size() < 4) return {};
  const std::string stripped = LS_TRY(steps[3].string("content"));
  const int64_t start = LS_TRY(steps[3].integer("start", 0, 1)),
                stop = LS_TRY(steps[3].integer("stop", 0, 0));
  if (stripped != " ") return unimplemented(steps[3], kExpected);
  state.strip_space = start + stop > 0;
  return {};
}

// How texts are cut into pieces and put together again.
Status read_pieces(const Json& file, const TokenizerLimits& limits, TokenizerState& state) {
  const auto pre_tokenizer = file.find("pre_tokenizer");
  const Json model = LS_TRY(file.object("model"));
  const bool fallback = LS_TRY(model.boolean_or("byte_fallback", false));
  if (!pre_tokenizer && !fallback)
    return error(Code::kUnimplemented, file.where(), " has no pre_tokenizer; expected ", kKind);
  if (pre_tokenizer) state.pre_tokenizer = LS_TRY(PreTokenizer::parse(*pre_tokenizer, limits.regex));
  const auto decoder = file.find("decoder");
  if (!decoder) return error(Code::kUnimplemented, file.where(), " has no decoder; expected ", kKind);
  if (pre_tokenizer) return read_decoder(*decoder);
  state.vocabulary = Vocabulary(Spelling::kCharacters);
  return read_character_decoder(*decoder, state);
}

Status read_characters(const Json& model, TokenizerState& state) {
  const std::string unknown = LS_TRY(model.string_or("unk_token", ""));
  const bool fuse = LS_TRY(model.boolean_or("fuse_unk", false));
  const auto id = unknown.empty() ? std::nullopt : state.vocabulary.find(unknown);
  if (!unknown.empty() && !id) return model.find("unk_token")->refuse("a token of model.vocab");
  state.characters.emplace(state.vocabulary, id.value_or(-1), fuse);
  return {};
}

}  // namespace

Result<TokenizerState> read_tokenizer(const Json& file, std::string_view who, const TokenizerLimits& limits) {
  TokenizerState state;
  state.who = who;
  state.limits = limits;
  const Json model = LS_TRY(file.object("model"));
  LS_TRY(check_model_options(model));
  LS_TRY(read_pieces(file, limits, state));
  if (const auto normalizer = file.find("normalizer"))
    state.normalizer = LS_TRY(Normalizer::parse(*normalizer));
  LS_TRY(read_model(model, state));
  if (!file.find("pre_tokenizer")) LS_TRY(read_characters(model, state));
  LS_TRY(read_added_tokens(file, state));
  state.special.resize(static_cast<size_t>(state.vocabulary.size()));
  state.of_model.resize(static_cast<size_t>(state.vocabulary.size()));
  int templates = 0;
  if (const auto post = file.find("post_processor")) LS_TRY(read_post_processor(*post, state, templates));
  return state;
}

}  // namespace lockstep
