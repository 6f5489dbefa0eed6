#include "text/split/pre_tokenizer.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

constexpr std::string_view kByteLevel =
    R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false})";

Result<PreTokenizer> parse(std::string_view text) {
  return PreTokenizer::parse(parse_json(text, {}, "t.json").value(), {});
}

Result<PreTokenizer> with_split(std::string_view split) {
  return parse(concat(R"({"type":"Sequence","pretokenizers":[)", split, ",", kByteLevel, "]}"));
}

std::string cut(const Result<PreTokenizer>& pre_tokenizer, std::string_view text) {
  if (!pre_tokenizer.ok()) return pre_tokenizer.status().message();
  std::deque<std::string> storage;
  const auto pieces = pre_tokenizer->split(text, storage);
  if (!pieces.ok()) return pieces.status().message();
  std::string out;
  for (const std::string_view piece : *pieces) (out += out.empty() ? "" : "|") += piece;
  return out;
}

TEST(PreTokenizer, IsolatesMatchesAndKeepsWhatLiesBetween) {
  const auto digits =
      with_split(R"({"type":"Split","pattern":{"Regex":"\\d+"},"behavior":"Isolated","invert":false})");

  EXPECT_EQ(cut(digits, "ab12c3"), "ab|12|c|3");
  EXPECT_EQ(cut(digits, ""), "");
}

TEST(PreTokenizer, RemovesMatchesOrGaps) {
  EXPECT_EQ(cut(with_split(R"({"type":"Split","pattern":{"String":"."},"behavior":"Removed"})"), "a.b.[c"),
            "a|b|[c");
  EXPECT_EQ(
      cut(with_split(R"({"type":"Split","pattern":{"Regex":"\\d+"},"behavior":"Removed","invert":true})"),
          "ab12c3"),
      "12|3");
}

TEST(PreTokenizer, CutsAtEmptyMatchesAndGoesOn) {
  const auto at_upper = with_split(
      R"j({"type":"Split","pattern":{"Regex":"(?=\\p{Lu})"},"behavior":"Isolated","invert":false})j");

  EXPECT_EQ(cut(at_upper, "abCdÉf"), "ab|Cd|Éf");
}

TEST(PreTokenizer, PutsASpaceBeforeWhereByteLevelSaysSo) {
  const auto gpt2 = parse(R"({"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true})");

  EXPECT_EQ(cut(gpt2, "Hello world"), " Hello| world");
  EXPECT_EQ(cut(gpt2, " Hello"), " Hello");
}

TEST(PreTokenizer, RefusesWhatItDoesNotHave) {
  EXPECT_EQ(
      cut(parse(R"({"type":"Metaspace"})"), ""),
      "t.json: type is \"Metaspace\"; expected Split, ByteLevel or Sequence, the ones that this engine has");
  EXPECT_EQ(
      cut(parse(R"({"type":"Sequence","pretokenizers":[]})"), ""),
      "t.json: the document has no ByteLevel step; expected byte-level BPE, the one kind that this engine "
      "has");
  EXPECT_EQ(
      cut(with_split(R"({"type":"Split","pattern":{"String":"x"},"behavior":"MergedWithNext"})"), ""),
      "t.json: pretokenizers[0].behavior is \"MergedWithNext\"; expected Isolated or Removed, the two that "
      "this engine has");
  EXPECT_EQ(cut(with_split(concat(kByteLevel)), ""),
            "t.json: pretokenizers[1].type is \"ByteLevel\"; expected no step after ByteLevel");
  EXPECT_EQ(cut(with_split(R"({"type":"Split","pattern":{"Regex":"\\w"},"behavior":"Isolated"})"), "")
                .substr(0, 58),
            "t.json: pretokenizers[0].pattern: pattern \\w has \\w at byt");
}

}  // namespace
}  // namespace lockstep
