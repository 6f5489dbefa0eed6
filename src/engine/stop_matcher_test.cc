#include "engine/stop_matcher.h"

#include <gtest/gtest.h>

#include <random>

#include "base/status.h"

namespace lockstep {
namespace {

struct Shown {
  std::string text;
  bool stopped = false;
  bool operator==(const Shown&) const = default;
};

// What a reader sees when `text` comes in pieces that end at `cuts`, ascending.
Shown shown(const std::vector<std::string>& stops, std::string_view text, const std::vector<size_t>& cuts) {
  StopMatcher matcher(stops);
  Shown seen;
  size_t begin = 0;
  for (size_t i = 0; i <= cuts.size() && !seen.stopped; ++i) {
    const size_t end = i < cuts.size() ? cuts[i] : text.size();
    const StopMatcher::Piece piece = matcher.push(text.substr(begin, end - begin));
    seen.text += piece.text;
    seen.stopped = piece.stopped;
    begin = end;
  }
  seen.text += matcher.flush();
  return seen;
}

// From the definition: the text before the first stop string to be complete, the longest where several are.
Shown expected(const std::vector<std::string>& stops, std::string_view text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const std::string& stop : stops) {
      if (text.substr(0, end).ends_with(stop)) longest = std::max(longest, stop.size());
    }
    if (longest > 0) return {std::string(text.substr(0, end - longest)), true};
  }
  return {std::string(text), false};
}

TEST(StopMatcher, LetsEverythingThroughWithoutStopStrings) {
  StopMatcher matcher({});
  EXPECT_EQ(matcher.push("any").text, "any");
  EXPECT_EQ(matcher.push("thing").text, "thing");
  EXPECT_EQ(matcher.flush(), "");
}

TEST(StopMatcher, HoldsBackWhatMayBecomeAStopString) {
  StopMatcher matcher({"<end>"});

  EXPECT_EQ(matcher.push("a<e").text, "a");
  EXPECT_EQ(matcher.push("n").text, "");
  EXPECT_EQ(matcher.push("x<").text, "<enx");
  EXPECT_EQ(matcher.flush(), "<");
  EXPECT_EQ(matcher.flush(), "");
}

TEST(StopMatcher, StopsAcrossPiecesAndShowsNoByteOfTheStopString) {
  StopMatcher matcher({"\n\n", "<end>"});

  EXPECT_EQ(matcher.push("one\n").text, "one");
  const StopMatcher::Piece piece = matcher.push("\ntwo");

  EXPECT_TRUE(piece.stopped);
  EXPECT_EQ(piece.text, "");
  EXPECT_EQ(matcher.flush(), "");
}

TEST(StopMatcher, FindsAStopStringThatBeginsInsideAFailedOne) {
  EXPECT_EQ(shown({"aab"}, "aaab", {1, 2, 3}), (Shown{"a", true}));
  EXPECT_EQ(shown({"abac"}, "ababac", {3, 5}), (Shown{"ab", true}));
}

// Which pieces the tokens make is nobody's business: the outcome is that of the whole text.
TEST(StopMatcher, DoesNotDependOnWhereTheTextIsCut) {
  EXPECT_EQ(shown({"abcd", "bc"}, "abcd", {}), (Shown{"a", true}));
  EXPECT_EQ(shown({"abcd", "bc"}, "abcd", {1, 2, 3}), (Shown{"a", true}));
  EXPECT_EQ(shown({"bc", "abc"}, "abc", {}), (Shown{"", true}));
}

TEST(StopMatcher, AgreesWithTheDefinitionOnRandomTexts) {
  std::mt19937_64 random(1);
  const auto word = [&](size_t least, size_t most) {
    std::string text(least + random() % (most - least + 1), ' ');
    for (char& letter : text) letter = static_cast<char>('a' + random() % 3);
    return text;
  };
  int64_t stopped = 0;
  for (int round = 0; round < 20000; ++round) {
    SCOPED_TRACE(concat("seed 1, round ", round));
    std::vector<std::string> stops(1 + random() % 3);
    for (std::string& stop : stops) stop = word(1, 5);
    const std::string text = word(0, 20);
    std::vector<size_t> cuts;
    for (size_t cut = 0; cut <= text.size(); ++cut) {
      if (random() % 3 == 0) cuts.push_back(cut);
    }

    const Shown seen = shown(stops, text, cuts);

    ASSERT_EQ(seen, expected(stops, text)) << text;
    stopped += seen.stopped ? 1 : 0;
  }
  EXPECT_GT(stopped, 5000);
}

}  // namespace
}  // namespace lockstep
