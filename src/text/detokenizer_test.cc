#include "text/detokenizer.h"

#include <gtest/gtest.h>

#include <random>

#include "json/utf8.h"
#include "text/sample_tokenizer.h"

namespace lockstep {
namespace {

Tokenizer made() {
  return Tokenizer::parse(
             sample_tokenizer_json({.merges = {{"\xE2", "\x82"}, {"a", "b"}},
                                    .added = {{.id = 300, .content = "<|end|>", .special = true}}}),
             "t.json")
      .value();
}

TEST(Detokenizer, HoldsBackACharacterUntilItIsWhole) {
  Detokenizer stream(made(), true);

  EXPECT_EQ(stream.push('x').value(), "x");
  EXPECT_EQ(stream.push(256).value(), "") << "E2 82";
  EXPECT_EQ(stream.push(0xAC).value(), "€");
  EXPECT_EQ(stream.push(0xF0).value(), "");
  EXPECT_EQ(stream.push(0x9F).value(), "");
  EXPECT_EQ(stream.push('y').value(), "\uFFFDy") << "what cannot complete any more is replaced at once";
  EXPECT_EQ(stream.flush(), "");
}

TEST(Detokenizer, ReplacesWhatNeverCompleted) {
  Detokenizer stream(made(), true);

  EXPECT_EQ(stream.push(256).value(), "");
  EXPECT_EQ(stream.flush(), "\uFFFD");
  EXPECT_EQ(stream.flush(), "");
}

TEST(Detokenizer, SkipsSpecialTokensOnlyWhenAsked) {
  Detokenizer silent(made(), true), loud(made(), false);

  EXPECT_EQ(silent.push(300).value(), "");
  EXPECT_EQ(loud.push(300).value(), "<|end|>");
}

TEST(Detokenizer, RefusesAnIdThatNamesNoToken) {
  Detokenizer stream(made(), true);
  ASSERT_TRUE(stream.push(256).ok());

  EXPECT_EQ(stream.push(299).status().message(),
            "detokenizer: id 299 names no token; expected an id in 0..300");
  EXPECT_EQ(stream.push(0xAC).value(), "€") << "the stream goes on where it was";
}

TEST(Detokenizer, KeepsTheFirstSpaceOfATextThatGoesOn) {
  const Tokenizer spaced =
      Tokenizer::load(concat(LOCKSTEP_SOURCE_DIR, "/tests/golden/tokenizer/minicpm/tokenizer.json")).value();
  const std::vector<int32_t> ids = spaced.encode("the fox", {.add_special_tokens = false}).value();
  Detokenizer begins(spaced, true), goes_on(spaced, true, Detokenizer::Text::kGoesOn);
  std::string first, later;
  for (const int32_t id : ids) first += begins.push(id).value();
  for (const int32_t id : ids) later += goes_on.push(id).value();

  EXPECT_EQ(first, "the fox");
  EXPECT_EQ(later, " the fox");
  EXPECT_EQ(begins.flush(), "");
  EXPECT_EQ(begins.push(ids[0]).value().substr(0, 1), "t") << "the stream is as new";
}

TEST(Detokenizer, SaysTogetherWhatDecodeSaysAtOnce) {
  const uint32_t seed = 11;
  std::mt19937 random(seed);
  const Tokenizer tokenizer = made();
  // Leads, continuations and their limits are where decoders differ.
  const std::vector<int32_t> choices = {'a',  256,  257,  300,  0x80, 0x82, 0x8F, 0x90,
                                        0x9F, 0xA0, 0xAC, 0xBF, 0xC0, 0xC3, 0xE0, 0xE2,
                                        0xED, 0xEF, 0xF0, 0xF1, 0xF4, 0xF5, 0xFF};
  for (int round = 0; round < 20'000; ++round) {
    std::vector<int32_t> ids;
    for (size_t i = random() % 12; i > 0; --i) ids.push_back(choices[random() % choices.size()]);
    const bool skip_special = round % 2 == 0;
    Detokenizer stream(tokenizer, skip_special);
    std::string text;
    for (const int32_t id : ids) {
      const std::string part = stream.push(id).value();
      ASSERT_EQ(find_invalid_utf8(part), std::nullopt);
      text += part;
    }
    text += stream.flush();
    ASSERT_EQ(text, tokenizer.decode(ids, skip_special).value()) << "seed " << seed << ", round " << round;
  }
}

}  // namespace
}  // namespace lockstep
