// Two inputs in one: a first byte below 128 makes the rest a tokenizer.json, which may be as broken as it
// likes; otherwise it chooses a pattern and the rest is a text, of which the properties below must hold.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "json/utf8.h"
#include "text/detokenizer.h"
#include "text/sample_tokenizer.h"
#include "text/split/scanner_oracle.h"
#include "text/split/unicode.h"
#include "text/tokenizer.h"

namespace lockstep {
namespace {

constexpr TokenizerLimits kLimits = {.max_file_bytes = 1 << 16,
                                     .max_text_bytes = 1 << 16,
                                     .regex = {.max_steps = 2000, .max_depth = 200, .max_heap_kib = 256}};

void load_anything(std::string_view json) {
  const Result<Tokenizer> tokenizer = Tokenizer::parse(json, "fuzz", kLimits);
  if (!tokenizer.ok()) {
    const std::string& message = tokenizer.status().message();
    LS_CHECK(!message.empty() && !find_invalid_utf8(message), "a refusal that nobody can read");
    return;
  }
  const auto ids = tokenizer->encode("Hello, it's 12 \u00E9\u0301 <s>\n", {});
  if (!ids.ok()) return;
  for (const int32_t id : *ids) LS_CHECK(tokenizer->contains(id), "encode gave id ", id);
  LS_CHECK(tokenizer->decode(*ids, false).ok(), "decode refuses what encode gave");
}

// One tokenizer per known pattern, and PCRE2's reading of the pattern.
struct Subject {
  Tokenizer tokenizer;
  Regex regex;
};

Subject subject_of(KnownPattern pattern) {
  const SampleTokenizer sample = {
      .pattern = std::string(text_of(pattern)),
      .merges =
          {{"a", "a"}, {"aa", "aa"}, {" ", "a"}, {"e", "r"}, {"\xC3", "\xA9"}, {" ", " "}, {"\n", "\n"}},
      .nfc = true};
  Result<Tokenizer> tokenizer = Tokenizer::parse(sample_tokenizer_json(sample), "sample", kLimits);
  LS_CHECK(tokenizer.ok(), tokenizer.status().message());
  return {std::move(tokenizer).value(), regex_of(pattern)};
}

bool engines_agree_on(std::string_view text) {
  static const ClassAgreement agree;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char next = decode_utf8(text, at);
    if (next.code >= 128 && !agree(next.code)) return false;
    at += next.size;
  }
  return true;
}

void round_trip(KnownPattern pattern, std::string_view text) {
  static const std::vector<Subject> subjects = [] {
    std::vector<Subject> out;
    for (const KnownPattern known : kKnownPatterns) out.push_back(subject_of(known));
    return out;
  }();
  const Subject& subject = subjects[static_cast<size_t>(pattern)];
  const auto ids = subject.tokenizer.encode(text, {});
  LS_CHECK(ids.ok() == !find_invalid_utf8(text), "encode and UTF-8 disagree");
  if (!ids.ok()) return;

  std::string storage;
  const std::string_view composed = normalize_nfc(text, storage);
  LS_CHECK(subject.tokenizer.decode(*ids, false).value() == composed, "decode(encode(x)) is not NFC(x)");
  std::string again;
  LS_CHECK(normalize_nfc(composed, again) == composed, "NFC is not idempotent");

  Detokenizer stream(subject.tokenizer, false);
  std::string streamed;
  for (const int32_t id : *ids) streamed += stream.push(id).value();
  streamed += stream.flush();
  LS_CHECK(streamed == composed, "the stream is not the text");

  if (composed.size() <= 512 && engines_agree_on(composed))
    LS_CHECK(pieces_by_scanner(pattern, composed) == pieces_by_regex(subject.regex, composed),
             "the scanner cuts otherwise than PCRE2: ", composed);
}

// Ids at random: what is broken must be replaced alike, at once and in a stream.
void decode_anything(std::string_view bytes) {
  static const Tokenizer tokenizer = subject_of(KnownPattern::kQwen).tokenizer;
  std::vector<int32_t> ids;
  for (const char c : bytes) ids.push_back(static_cast<unsigned char>(c));
  Detokenizer stream(tokenizer, false);
  std::string streamed;
  for (const int32_t id : ids) streamed += stream.push(id).value();
  streamed += stream.flush();
  LS_CHECK(streamed == tokenizer.decode(ids, false).value(), "stream and decode disagree");
}

}  // namespace
}  // namespace lockstep

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lockstep;
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] < 128) {
    load_anything(rest);
  } else {
    round_trip(kKnownPatterns[data[0] % std::size(kKnownPatterns)], rest);
    decode_anything(rest);
  }
  return 0;
}
