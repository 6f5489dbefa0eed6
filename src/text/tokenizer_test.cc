#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/clock.h"
#include "text/sample_tokenizer.h"

namespace lockstep {
namespace {

const SampleTokenizer kSample = {
    .merges = {{"h", "e"}, {"l", "l"}, {"he", "ll"}, {"hell", "o"}, {" ", "w"}, {"\xC3", "\xA9"}},
    .added = {{.id = 300, .content = "<|end|>", .special = true},
              {.id = 301, .content = "<think>"},
              {.id = 302, .content = "e\u0301!", .normalized = true}},
    .nfc = true};

Tokenizer made(const SampleTokenizer& sample) {
  Result<Tokenizer> tokenizer = Tokenizer::parse(sample_tokenizer_json(sample), "t.json");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  return std::move(tokenizer).value();
}

using Ids = std::vector<int32_t>;

TEST(Tokenizer, MergesWithinPiecesOnly) {
  const Tokenizer tokenizer = made(kSample);

  EXPECT_EQ(tokenizer.encode("hello w", {}).value(), (Ids{259, 260}));
  EXPECT_EQ(tokenizer.encode("hell", {}).value(), (Ids{258}));
  EXPECT_EQ(tokenizer.encode("", {}).value(), Ids{});
}

TEST(Tokenizer, ReadsMergesAsStringsAndAsPairs) {
  SampleTokenizer strings = kSample;
  strings.pairs = false;

  EXPECT_EQ(made(strings).encode("hello w", {}).value(), made(kSample).encode("hello w", {}).value());
}

TEST(Tokenizer, NormalizesTextButNotRawTokens) {
  const Tokenizer tokenizer = made(kSample);

  EXPECT_EQ(tokenizer.encode("e\u0301", {}).value(), (Ids{261}));
  EXPECT_EQ(tokenizer.encode("é!", {}).value(), (Ids{302})) << "a normalized token matches composed text";
  EXPECT_EQ(tokenizer.encode("e\u0301!", {}).value(), (Ids{302}));
}

// Merges stay within pieces, and each family cuts otherwise: at every digit or after three, between a letter
// and a mark that no NFC joins to it, between a small letter and a capital.
TEST(Tokenizer, CutsAsTheFamilyOfItsPatternDoes) {
  struct Case {
    KnownPattern pattern;
    Ids ids;
  };
  for (const Case& c : {Case{KnownPattern::kQwen, {'1', '2', '3', 'x', 0xCC, 0x81, 260}},
                        Case{KnownPattern::kQwen35, {'1', '2', '3', 259, 260}},
                        Case{KnownPattern::kLlama3, {257, 'x', 0xCC, 0x81, 260}},
                        Case{KnownPattern::kMiniMax, {257, 259, 'b', 'C'}}}) {
    const Tokenizer tokenizer =
        made({.pattern = std::string(text_of(c.pattern)),
              .merges = {{"1", "2"}, {"12", "3"}, {"x", "\xCC"}, {"x\xCC", "\x81"}, {"b", "C"}},
              .nfc = true});
    EXPECT_EQ(tokenizer.encode("123x\u0301bC", {}).value(), c.ids) << text_of(c.pattern);
  }
}

TEST(Tokenizer, FindsAddedTokensBeforeSplitting) {
  const Tokenizer tokenizer = made(kSample);

  EXPECT_EQ(tokenizer.encode("he<|end|><think>ll", {}).value(), (Ids{256, 300, 301, 257}));
  EXPECT_EQ(tokenizer.encode("<|end|>", {.split_special_tokens = true}).value().size(), 7u);
  EXPECT_EQ(tokenizer.encode("<think>", {.split_special_tokens = true}).value(), (Ids{301}));
}

TEST(Tokenizer, AddsWhatTheTemplateSaysOnDemand) {
  SampleTokenizer sample = kSample;
  sample.bos = 300;
  const Tokenizer tokenizer = made(sample);

  EXPECT_EQ(tokenizer.encode("he", {}).value(), (Ids{300, 256}));
  EXPECT_EQ(tokenizer.encode("", {}).value(), (Ids{300}));
  EXPECT_EQ(tokenizer.encode("he", {.add_special_tokens = false}).value(), (Ids{256}));
}

TEST(Tokenizer, TakesAWholePieceWhereMergesAreIgnored) {
  SampleTokenizer sample = kSample;
  sample.merges = {{"a", "b"}, {"ab", "c"}, {"b", "c"}};
  std::string json = sample_tokenizer_json(sample);
  EXPECT_EQ(made(sample).encode("abc", {}).value(), (Ids{257}));
  // The token "abc" stays, the merge that would build it goes.
  json.replace(json.find(R"(["ab","c"],)"), 11, "");
  EXPECT_EQ(Tokenizer::parse(json, "t").value().encode("abc", {}).value(), (Ids{256, 'c'}));
  json.replace(json.find(R"("ignore_merges":false)"), 21, R"("ignore_merges":true)");

  const Tokenizer tokenizer = Tokenizer::parse(json, "t").value();

  EXPECT_EQ(tokenizer.encode("abc", {}).value(), (Ids{257}));
  EXPECT_EQ(tokenizer.encode("x<|end|", {}).value().size(), 7u) << "an added token is no piece of the model";
}

TEST(Tokenizer, DecodesBytesAcrossTokensAndReplacesBrokenOnes) {
  const Tokenizer tokenizer = made(kSample);

  EXPECT_EQ(tokenizer.decode(Ids{0xC3, 0xA9, 300, 259, 301}, true).value(), "éhello<think>");
  EXPECT_EQ(tokenizer.decode(Ids{0xC3, 300, 0xA9}, false).value(), "\uFFFD<|end|>\uFFFD");
  EXPECT_EQ(tokenizer.decode(Ids{0xF0, 0x9F, 0x98}, false).value(), "\uFFFD");
}

TEST(Tokenizer, AnswersForItsTokens) {
  const Tokenizer tokenizer = made(kSample);

  EXPECT_EQ(tokenizer.vocab_size(), 303);
  EXPECT_EQ(tokenizer.token_bytes(260), " w");
  EXPECT_EQ(tokenizer.token_content(260), "Ġw");
  EXPECT_EQ(tokenizer.id_of("Ġw"), 260);
  EXPECT_EQ(tokenizer.id_of("<|end|>"), 300);
  EXPECT_EQ(tokenizer.id_of("nothing"), std::nullopt);
  EXPECT_TRUE(tokenizer.is_special(300));
  EXPECT_FALSE(tokenizer.is_special(301) || tokenizer.is_special(290) || tokenizer.is_special(-1));
  EXPECT_FALSE(tokenizer.contains(290));
}

TEST(Tokenizer, RefusesTextThatIsNotUtf8AndIdsThatNameNothing) {
  const Tokenizer tokenizer = made(kSample);

  EXPECT_EQ(tokenizer.encode("ab\xFF", {}).status().message(),
            "t.json: byte 2 of the text is not UTF-8; expected UTF-8 from end to end");
  EXPECT_EQ(tokenizer.decode(Ids{290}, false).status().message(),
            "t.json: id 290 names no token; expected an id in 0..302");
}

TEST(Tokenizer, HoldsToTheLimitOfItsText) {
  const auto tokenizer = Tokenizer::parse(sample_tokenizer_json(kSample), "t.json", {.max_text_bytes = 3});

  EXPECT_EQ(tokenizer->encode("abcd", {}).status().message(),
            "t.json: the text has 4 bytes; expected at most 3");
}

TEST(Tokenizer, NamesThePatternThatRunsAway) {
  SampleTokenizer sample = kSample;
  sample.pattern = "(?:a+)+$";
  const auto tokenizer =
      Tokenizer::parse(sample_tokenizer_json(sample), "t.json", {.regex = {.max_steps = 1000}});

  EXPECT_EQ(tokenizer->encode(std::string(40, 'a') + "!", {}).status().message(),
            "t.json: pre_tokenizer.pretokenizers[0].pattern: pattern (?:a+)+$ gave up on a text of 41 "
            "bytes (match limit exceeded); expected a pattern that needs less backtracking");
}

TEST(Tokenizer, ReadsAFileByPath) {
  const std::string path = testing::TempDir() + "tokenizer_test.json";
  std::ofstream(path) << sample_tokenizer_json(kSample);

  EXPECT_EQ(Tokenizer::load(path)->encode("he", {}).value(), (Ids{256}));
  EXPECT_EQ(Tokenizer::load("/nowhere/tokenizer.json").status().code(), Code::kNotFound);
}

TEST(Tokenizer, EncodesAMegabyteInTime) {
  const Tokenizer tokenizer = made(kSample);
  std::string text;
  while (text.size() < (1 << 20)) text += "hello world, it's 2 o'clock <think>\n";

  const int64_t start = now_ns();
  const auto ids = tokenizer.encode(text, {}).value();

  EXPECT_EQ(tokenizer.decode(ids, false).value(), text);
  EXPECT_LT(seconds_since(start), 5.0);
}

}  // namespace
}  // namespace lockstep
