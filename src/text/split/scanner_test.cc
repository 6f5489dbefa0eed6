#include "text/split/scanner.h"

#include <gtest/gtest.h>

#include <random>

#include "base/clock.h"
#include "text/split/scanner_oracle.h"

namespace lockstep {
namespace {

std::string joined(const std::vector<std::string_view>& pieces) {
  std::string out;
  for (const std::string_view piece : pieces) (out += out.empty() ? "" : "|") += piece;
  return out;
}

std::string cut(KnownPattern pattern, std::string_view text) {
  return joined(pieces_by_scanner(pattern, text));
}

TEST(Scanner, IsChosenByTheSpellingOfThePattern) {
  for (const KnownPattern pattern : kKnownPatterns) EXPECT_EQ(find_known_pattern(text_of(pattern)), pattern);
  EXPECT_EQ(find_known_pattern("\\s+"), std::nullopt);
}

TEST(Scanner, CutsAsQwenDoes) {
  const auto qwen = [](std::string_view text) { return cut(KnownPattern::kQwen, text); };

  EXPECT_EQ(qwen("Hello world"), "Hello| world");
  EXPECT_EQ(qwen("I'm YOU'RE it'ſ 'x"), "I|'m| YOU|'RE| it|'ſ| '|x");
  EXPECT_EQ(qwen("a1234"), "a|1|2|3|4");
  EXPECT_EQ(qwen("a  b"), "a| | b");
  EXPECT_EQ(qwen("a \n\n  b\n"), "a| \n\n| | b|\n");
  EXPECT_EQ(qwen("x == y;\n\nz"), "x| ==| y|;\n\n|z");
  EXPECT_EQ(qwen("end   "), "end|   ");
  EXPECT_EQ(qwen("(hi)\t(there)"), "(hi|)|\t|(there|)");
  EXPECT_EQ(qwen("e\u0301a"), "e|\u0301a") << "a mark leads the letters that follow";
}

TEST(Scanner, KeepsMarksWithTheirLettersForQwen35) {
  EXPECT_EQ(cut(KnownPattern::kQwen35, "e\u0301a"), "e\u0301a");
  EXPECT_EQ(cut(KnownPattern::kQwen35, "\u0301 !\u0301"), "\u0301| !|\u0301");
  EXPECT_EQ(cut(KnownPattern::kQwen35, "1\u0301"), "1|\u0301");
}

TEST(Scanner, GroupsThreeDigitsForLlama3) {
  EXPECT_EQ(cut(KnownPattern::kLlama3, "12345 x9"), "123|45| x|9");
}

TEST(Scanner, TellsUpperFromLowerForMiniMax) {
  const auto minimax = [](std::string_view text) { return cut(KnownPattern::kMiniMax, text); };

  EXPECT_EQ(minimax("HelloWorld"), "Hello|World");
  EXPECT_EQ(minimax("HTTPServer don't"), "HTTPServer| don't");
  EXPECT_EQ(minimax("ABC中DEF"), "ABC中|DEF") << "the first run gives back up to a letter of both classes";
  EXPECT_EQ(minimax("a/b//\n12345"), "a|/b|//\n|123|45");
  EXPECT_EQ(minimax("日本語 TEXT'S"), "日本語| TEXT'S");
}

TEST(Scanner, CutsAsGpt2Does) {
  const auto gpt2 = [](std::string_view text) { return cut(KnownPattern::kGpt2, text); };

  EXPECT_EQ(gpt2(" I'm 123 YOU'RE..\n"), " I|'m| 123| YOU|'|RE|..|\n");
  EXPECT_EQ(gpt2("a  \n b"), "a|  \n| b");
}

TEST(Scanner, AgreesWithPcre2OnRandomTexts) {
  const uint32_t seed = 20260101;
  std::mt19937 random(seed);
  const std::vector<std::string> parts = {
      "'",      "s",      "S",      "ſ",      "'re",    "'Ve",    "ll",     "D",      " ",     "  ",
      "\n",     "\r",     "\r\n",   "\t",     "a",      "B",      "\u01C5", "\u02B0", "中",    "é",
      "\u0301", "\u0930", "\u093F", "\u0E31", "\u0E01", "1",      "٣",      "½",      "!",     "/",
      "//",     "-",      "😀",      "\u00A0", "\u3000", "\u2028", "\u0085", "\u200D", "\u180E"};
  const ClassAgreement agree;
  for (const KnownPattern pattern : kKnownPatterns) {
    const Regex regex = regex_of(pattern);
    for (int round = 0; round < 3000; ++round) {
      std::string text;
      for (size_t i = random() % 16; i > 0; --i) {
        const auto code = static_cast<char32_t>(random() % 0x3000 + 1);
        if (random() % 8 > 0 || !agree(code)) {
          text += parts[random() % parts.size()];
        } else {
          append_utf8(text, code);
        }
      }
      ASSERT_EQ(joined(pieces_by_scanner(pattern, text)), joined(pieces_by_regex(regex, text)))
          << "seed " << seed << ", round " << round << ", pattern " << text_of(pattern);
    }
  }
}

TEST(Scanner, TakesLinearTimeOnLongRunsOfAnything) {
  const int64_t start = now_ns();
  for (const KnownPattern pattern : kKnownPatterns) {
    for (const std::string_view unit :
         {"a", "A", " ", "\n", " \n", "!", "中A", "\u0301", "'", "'s", "1", "a "}) {
      std::string text;
      while (text.size() < 200'000) text += unit;
      EXPECT_FALSE(pieces_by_scanner(pattern, text).empty());
    }
  }
  EXPECT_LT(seconds_since(start), 20.0) << "12 MB; quadratic scans would take hours";
}

}  // namespace
}  // namespace lockstep
