// Against the `tokenizers` package: tests/golden/tokenizer, made by tools/make_tokenizer_cases.py. Everything
// must be equal.
#include <gtest/gtest.h>

#include "json/json.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

namespace lockstep {
namespace {

using Ids = std::vector<int32_t>;

std::string golden(std::string_view name) {
  return concat(LOCKSTEP_SOURCE_DIR, "/tests/golden/tokenizer/", name);
}

const Json& cases() {
  static const Json all = parse_json_file(golden("cases.json")).value().array("cases").value();
  return all;
}

Ids ids_in(const Json& object, std::string_view family) {
  const auto wide = object.integers(family).value();
  return Ids(wide.begin(), wide.end());
}

class TokenizerGolden : public testing::TestWithParam<const char*> {
 protected:
  const std::string family_ = GetParam();
  const Tokenizer tokenizer_ = Tokenizer::load(golden(family_ + "/tokenizer.json")).value();
};

TEST_P(TokenizerGolden, EncodesEveryTextToTheSameIds) {
  ASSERT_GT(cases().size(), 1000u);
  for (const Json& entry : cases()) {
    const std::string text = entry.string("text").value();
    const Ids expected = ids_in(entry.object("ids").value(), family_);
    EXPECT_EQ(tokenizer_.encode(text, {.add_special_tokens = false}).value(), expected) << '"' << text << '"';
  }
}

TEST_P(TokenizerGolden, AddsTheSameSpecialTokens) {
  int compared = 0;
  for (const Json& entry : cases()) {
    const auto full = entry.find("with_special");
    if (!full) continue;
    ++compared;
    const std::string text = entry.string("text").value();
    const Json expected = full->contains(family_) ? *full : entry.object("ids").value();
    EXPECT_EQ(tokenizer_.encode(text, {.add_special_tokens = true}).value(), ids_in(expected, family_))
        << text;
  }
  EXPECT_GT(compared, 20);
}

TEST_P(TokenizerGolden, DecodesToTheSameTextAtOnceAndInAStream) {
  for (const Json& entry : cases()) {
    const Ids ids = ids_in(entry.object("ids").value(), family_);
    const auto decoded = entry.find("decoded");
    const bool differs = decoded && decoded->contains(family_);
    const std::string expected = differs ? decoded->string(family_).value() : entry.string("text").value();
    Detokenizer stream(tokenizer_, false);
    std::string streamed;
    for (const int32_t id : ids) streamed += stream.push(id).value();
    streamed += stream.flush();

    EXPECT_EQ(tokenizer_.decode(ids, false).value(), expected);
    EXPECT_EQ(streamed, expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, TokenizerGolden, testing::Values("qwen", "llama3", "minimax", "minicpm"),
                         [](const auto& family) { return std::string(family.param); });

}  // namespace
}  // namespace lockstep
