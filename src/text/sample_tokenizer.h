// For tests and fuzzers: writes small valid tokenizer.json files.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "json/json_writer.h"
#include "text/split/scanner.h"
#include "text/tokens/added_tokens.h"
#include "text/tokens/vocabulary.h"

namespace lockstep {

struct SampleTokenizer {
  std::string pattern = std::string(text_of(KnownPattern::kQwen));
  std::vector<std::pair<std::string, std::string>> merges = {};  // in bytes: {" ", "t"}; ids from 256 on
  std::vector<AddedToken> added = {};
  bool nfc = false;
  bool ignore_merges = false;
  bool pairs = true;  // merges as ["a", "b"], else "a b"
  int32_t bos = -1;   // the template puts it before, when there is one
};

inline std::string spelling_of(std::string_view bytes) {
  std::string out;
  append_spelling(out, bytes);
  return out;
}

inline void write_model(const SampleTokenizer& sample, JsonWriter& json) {
  json.begin_object().member("type", "BPE").member("ignore_merges", sample.ignore_merges);
  json.key("vocab").begin_object();
  for (int byte = 0; byte < 256; ++byte)
    json.member(spelling_of(std::string(1, static_cast<char>(byte))), byte);
  int id = 256;
  for (const auto& [left, right] : sample.merges) json.member(spelling_of(left + right), id++);
  json.end_object().key("merges").begin_array();
  for (const auto& [left, right] : sample.merges) {
    if (sample.pairs) {
      json.begin_array().value(spelling_of(left)).value(spelling_of(right)).end_array();
    } else {
      json.value(concat(spelling_of(left), ' ', spelling_of(right)));
    }
  }
  json.end_array().end_object();
}

inline void write_added(const SampleTokenizer& sample, JsonWriter& json) {
  json.begin_array();
  for (const AddedToken& token : sample.added) {
    json.begin_object()
        .member("id", token.id)
        .member("content", token.content)
        .member("special", token.special);
    json.member("single_word", token.single_word)
        .member("lstrip", token.lstrip)
        .member("rstrip", token.rstrip);
    json.member("normalized", token.normalized).end_object();
  }
  json.end_array();
}

// Bytes have the ids 0..255, merges follow, added tokens have the ids they say.
inline std::string sample_tokenizer_json(const SampleTokenizer& sample) {
  JsonWriter json;
  json.begin_object().key("added_tokens");
  write_added(sample, json);
  if (sample.nfc) json.key("normalizer").begin_object().member("type", "NFC").end_object();
  json.key("pre_tokenizer").begin_object().member("type", "Sequence").key("pretokenizers").begin_array();
  json.begin_object().member("type", "Split").member("behavior", "Isolated").member("invert", false);
  json.key("pattern").begin_object().member("Regex", sample.pattern).end_object().end_object();
  json.begin_object()
      .member("type", "ByteLevel")
      .member("add_prefix_space", false)
      .member("use_regex", false);
  json.end_object().end_array().end_object();
  json.key("decoder").begin_object().member("type", "ByteLevel").end_object();
  if (sample.bos >= 0) {
    json.key("post_processor")
        .begin_object()
        .member("type", "TemplateProcessing")
        .key("single")
        .begin_array();
    json.begin_object().key("SpecialToken").begin_object().member("id", "bos").end_object().end_object();
    json.begin_object()
        .key("Sequence")
        .begin_object()
        .member("id", "A")
        .end_object()
        .end_object()
        .end_array();
    json.key("special_tokens").begin_object().key("bos").begin_object().key("ids").begin_array();
    json.value(sample.bos).end_array().end_object().end_object().end_object();
  }
  json.key("model");
  write_model(sample, json);
  return std::move(json.end_object()).take();
}

}  // namespace lockstep
