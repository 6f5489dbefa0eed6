// Tokenizers over characters, SentencePiece's, by hand; against the `tokenizers` package in
// tokenizer_golden_test.cc.
#include <gtest/gtest.h>

#include "text/tokenizer.h"

namespace lockstep {
namespace {

constexpr std::string_view kFile = R"({"added_tokens": [{"id": 1, "content": "<s>", "special": true,
  "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}],
  "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
  "pre_tokenizer": null,
  "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
    {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
  "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
    "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "<0x0A>": 3, "<0xC3>": 4, "<0xA9>": 5, "▁": 6, "a": 7, "b": 8,
      "▁a": 9, "ab": 10}, "merges": ["▁ a", "a b"]}})";

Result<Tokenizer> load_with(std::string_view from, std::string_view to) {
  std::string json(kFile);
  const size_t at = json.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  if (at != std::string::npos) json.replace(at, from.size(), to);
  return Tokenizer::parse(json, "t.json");
}
Tokenizer made() { return load_with("BPE", "BPE").value(); }

std::vector<int32_t> ids_of(const Tokenizer& tokenizer, std::string_view text) {
  return tokenizer.encode(text, {.add_special_tokens = false}).value();
}
using Ids = std::vector<int32_t>;

TEST(CharacterTokenizer, PutsASpaceInFrontAndMergesByRank) {
  const Tokenizer tokenizer = made();

  EXPECT_EQ(ids_of(tokenizer, "ab"), (Ids{9, 8})) << "the space and a come before a and b";
  EXPECT_EQ(ids_of(tokenizer, "bab"), (Ids{6, 8, 10}));
  EXPECT_EQ(ids_of(tokenizer, "a b"), (Ids{9, 6, 8}));
  EXPECT_EQ(ids_of(tokenizer, ""), Ids{});
  EXPECT_EQ(ids_of(tokenizer, "a<s>a"), (Ids{9, 1, 9})) << "between added tokens too";
}

TEST(CharacterTokenizer, FallsBackToBytesAndThenToTheUnknownToken) {
  const Tokenizer tokenizer = made();

  EXPECT_EQ(ids_of(tokenizer, "é\n"), (Ids{6, 4, 5, 3}));
  EXPECT_EQ(ids_of(tokenizer, "xxbx"), (Ids{6, 0, 8, 0})) << "in a row they are one";
  EXPECT_EQ(ids_of(load_with("\"fuse_unk\": true", "\"fuse_unk\": false").value(), "xx"), (Ids{6, 0, 0}));
  EXPECT_EQ(load_with("\"unk_token\": \"<unk>\", ", "").value().encode("x", {}).status().message(),
            "t.json: the text has x, for which the vocabulary has no token; expected text that the "
            "vocabulary can spell");
}

TEST(CharacterTokenizer, DecodesSpacesAndBytesAndTakesTheFirstSpaceAway) {
  const Tokenizer tokenizer = made();

  EXPECT_EQ(tokenizer.decode(Ids{9, 6, 8}, false).value(), "a b");
  EXPECT_EQ(tokenizer.decode(Ids{6, 6, 4, 5, 3}, false).value(), " é\n");
  EXPECT_EQ(tokenizer.decode(Ids{1, 9}, false).value(), "<s> a") << "of the whole text, not of each part";
  EXPECT_EQ(tokenizer.decode(Ids{1, 9}, true).value(), "a");
  EXPECT_TRUE(tokenizer.strips_space());
  EXPECT_EQ(load_with(R"("start": 1)", R"("start": 0)").value().decode(Ids{9}, false).value(), " a");
}

TEST(CharacterTokenizer, OfAnotherKindIsRefused) {
  const auto refusal = [](std::string_view from, std::string_view to) {
    return load_with(from, to).status().message();
  };
  EXPECT_EQ(refusal(R"("byte_fallback": true)", R"("byte_fallback": false)"),
            "t.json: the document has no pre_tokenizer; expected BPE of bytes, or of characters with "
            "byte_fallback");
  EXPECT_EQ(
      refusal(R"("Fuse")", R"("Strip")"),
      "t.json: decoder.decoders[2].type is \"Strip\"; expected Replace, ByteFallback, Fuse and maybe Strip "
      "of one space, in a row");
  EXPECT_EQ(refusal(R"("start": 1)", R"("start": 2)"),
            "t.json: decoder.decoders[3].start is 2; expected an integer in 0..1");
  EXPECT_EQ(refusal(R"("unk_token": "<unk>")", R"("unk_token": "?")"),
            "t.json: model.unk_token is \"?\"; expected a token of model.vocab");
  EXPECT_EQ(refusal(R"({"String": " "})", R"({"String": ""})"),
            "t.json: normalizer.normalizers[1].pattern.String is \"\"; expected a text to look for");
}

}  // namespace
}  // namespace lockstep
