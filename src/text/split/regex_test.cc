#include "text/split/regex.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

std::string compile_error(std::string_view pattern) {
  const Result<Regex> regex = Regex::compile(pattern, {}, "t.json: pattern");
  return regex.ok() ? "compiles" : regex.status().message();
}

TEST(Regex, FindsTheLeftmostMatch) {
  const Regex regex = Regex::compile(R"(\p{Lu}+(?!\d))", {}, "test").value();

  const auto match = regex.find("éAB1ÇD ", 0).value();

  EXPECT_EQ(match->begin, 2u);
  EXPECT_EQ(match->end, 3u) << "the look-ahead gives B back";
  EXPECT_FALSE(regex.find("abc", 0).value());
}

TEST(Regex, ReadsWhiteSpaceAsOnigurumaDoes) {
  EXPECT_EQ(to_pcre2(R"([^\s]\S\u00e9)", "t").value(), R"([^\p{White_Space}]\P{White_Space}\x{00e9})");
  const Regex space = Regex::compile(R"(\s)", {}, "test").value();

  EXPECT_TRUE(space.find("\u3000", 0).value());
  EXPECT_FALSE(space.find("\u180E", 0).value()) << "PCRE2's own \\s takes the Mongolian vowel separator in";
}

TEST(Regex, RefusesWhatTheTwoEnginesReadDifferently) {
  EXPECT_EQ(compile_error(R"(a\w+)"),
            "t.json: pattern: pattern a\\w+ has \\w at byte 1, which PCRE2 and Oniguruma read differently; "
            "expected "
            "plain groups, sets, counts, \\s, \\d and general categories");
  for (const char* pattern :
       {R"(\bx)", R"(\h)", R"(\p{Han})", R"(\p{^L})", R"([a&&b])", R"([[:alpha:]])", R"((?i)x)", R"((?m:.))",
        R"((*COMMIT)x)", R"((a)\1)", R"(a{,3})", R"(a{2}?)", R"(a{1,3}+)", R"([]a])", R"(\Q)", "a\\"})
    EXPECT_EQ(Regex::compile(pattern, {}, "t").status().code(), Code::kUnimplemented) << pattern;
}

TEST(Regex, NamesAPatternThatDoesNotCompile) {
  EXPECT_EQ(compile_error("(a"),
            "t.json: pattern: pattern (a does not compile (missing closing parenthesis); expected a regular "
            "expression");
  EXPECT_EQ(compile_error(std::string(9000, 'a')),
            "t.json: pattern: the pattern has 9000 bytes; expected at most 8192");
}

TEST(Regex, GivesUpOnRunawayBacktrackingAndNamesThePattern) {
  const Regex regex = Regex::compile("(?:a+)+$", {.max_steps = 10'000}, "t.json").value();

  const Status status = regex.find(std::string(64, 'a') + "!", 0).status();

  EXPECT_EQ(status.code(), Code::kResourceExhausted);
  EXPECT_EQ(
      status.message(),
      "t.json: pattern (?:a+)+$ gave up on a text of 65 bytes (match limit exceeded); expected a pattern "
      "that needs less backtracking");
}

}  // namespace
}  // namespace lockstep
