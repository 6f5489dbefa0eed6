#include "text/split/unicode.h"

#include <gtest/gtest.h>

#include "base/clock.h"

namespace lockstep {
namespace {

std::string nfc(std::string_view text) {
  std::string storage;
  return std::string(normalize_nfc(text, storage));
}

TEST(Unicode, PutsCharactersIntoTheirClasses) {
  EXPECT_EQ(classes_of(U'a'), kLetter | kLowerRun);
  EXPECT_EQ(classes_of(U'Q'), kLetter | kUpperRun);
  EXPECT_EQ(classes_of(U'\u01C5'), kLetter | kUpperRun) << "Lt";
  EXPECT_EQ(classes_of(U'\u02B0'), kLetter | kUpperRun | kLowerRun) << "Lm";
  EXPECT_EQ(classes_of(U'中'), kLetter | kUpperRun | kLowerRun) << "Lo";
  EXPECT_EQ(classes_of(U'\u0301'), kMark | kUpperRun | kLowerRun);
  EXPECT_EQ(classes_of(U'7'), kNumber);
  EXPECT_EQ(classes_of(U'½'), kNumber);
  EXPECT_EQ(classes_of(U'\n'), kSpace | kNewline);
  EXPECT_EQ(classes_of(U'!'), 0);
  EXPECT_EQ(classes_of(U'😀'), 0);
}

TEST(Unicode, CountsWhiteSpaceAsTheCharacterDatabaseDoes) {
  int count = 0;
  for (char32_t code = 0; code <= 0x10FFFF; ++code) count += is_white_space(code) ? 1 : 0;

  EXPECT_EQ(count, 25);
  EXPECT_TRUE(is_white_space(U'\u0085') && is_white_space(U'\u3000') && is_white_space(U'\u2028'));
  EXPECT_FALSE(is_white_space(U'\u180E') || is_white_space(U'\u200B') || is_white_space(U'\u001C'));
}

TEST(Unicode, TakesLettersMarksDigitsConnectorsAndJoinersForWords) {
  for (const char32_t code : {U'a', U'_', U'9', U'\u0301', U'\u200D', U'\u24B6', U'\u2160', U'中'})
    EXPECT_TRUE(is_word(code)) << static_cast<uint32_t>(code);
  for (const char32_t code : {U' ', U'-', U'½', U'😀', U'\u200B'})
    EXPECT_FALSE(is_word(code)) << static_cast<uint32_t>(code);
}

TEST(Unicode, ComposesWhatHasAComposedForm) {
  EXPECT_EQ(nfc("e\u0301"), "é");
  EXPECT_EQ(nfc("\u1112\u1161\u11AB"), "한");
  EXPECT_EQ(nfc("\u212B"), "Å") << "the angstrom sign is a singleton";
  EXPECT_EQ(nfc("q\u0307\u0323"), "q\u0323\u0307") << "marks in canonical order";
  EXPECT_EQ(nfc("\u0958"), "\u0915\u093C") << "a composition exclusion";
  EXPECT_EQ(nfc("plain ascii, déjà composé"), "plain ascii, déjà composé");
}

TEST(Unicode, ReturnsTheTextItselfWhereNothingCanCombine) {
  const std::string text = "caf\u00E9";
  std::string storage;

  EXPECT_EQ(normalize_nfc(text, storage).data(), text.data());
}

TEST(Unicode, SortsALongRunOfMarksInTime) {
  std::string text = "a";
  for (int i = 0; i < 100'000; ++i) text += i % 2 ? "\u0323" : "\u0301";

  const int64_t start = now_ns();
  const std::string composed = nfc(text);

  EXPECT_EQ(composed.size(), text.size()) << "U+1EA1 takes the place of a and one mark";
  EXPECT_LT(seconds_since(start), 5.0);
}

}  // namespace
}  // namespace lockstep
