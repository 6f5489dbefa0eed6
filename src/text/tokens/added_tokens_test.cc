#include "text/tokens/added_tokens.h"

#include <gtest/gtest.h>

#include "base/status.h"

namespace lockstep {
namespace {

std::string cut(const std::vector<AddedToken>& tokens, std::string_view text, bool skip_special = false) {
  AddedTokenMatcher matcher;
  for (const AddedToken& token : tokens) matcher.add(token.content, token);
  std::string out;
  for (const auto& section : matcher.cut(text, skip_special)) {
    if (!out.empty()) out += '|';
    out += section.id >= 0 ? concat('<', section.id, '>') : std::string(section.text);
  }
  return out;
}

TEST(AddedTokenMatcher, TakesTheLeftmostAndThereTheLongest) {
  const std::vector<AddedToken> tokens = {
      {.id = 1, .content = "ab"}, {.id = 2, .content = "abcd"}, {.id = 3, .content = "bc"}};

  EXPECT_EQ(cut(tokens, "xabcdabcab"), "x|<2>|<1>|c|<1>");
  EXPECT_EQ(cut(tokens, "abcx"), "<1>|cx");
  EXPECT_EQ(cut(tokens, ""), "");
  EXPECT_EQ(cut({}, "plain"), "plain");
}

TEST(AddedTokenMatcher, StripsWhiteSpaceOnTheSidesThatSaySo) {
  EXPECT_EQ(cut({{.id = 1, .content = "<m>", .lstrip = true}}, "a \t\u3000<m> b"), "a|<1>| b");
  EXPECT_EQ(cut({{.id = 1, .content = "<m>", .rstrip = true}}, "a <m> \n b"), "a |<1>|b");
  EXPECT_EQ(cut({{.id = 1, .content = "<m>", .lstrip = true, .rstrip = true}}, "<m> <m>"), "<1>|<1>");
}

TEST(AddedTokenMatcher, WantsASingleWordToStandAlone) {
  const std::vector<AddedToken> tokens = {{.id = 1, .content = "tool", .single_word = true}};

  EXPECT_EQ(cut(tokens, "tool tools atool é-tool!"), "<1>| tools atool é-|<1>|!");
  EXPECT_EQ(cut(tokens, "tool_ étool tool\u0301"), "tool_ étool tool\u0301");
}

TEST(AddedTokenMatcher, LeavesSpecialTokensInTheTextOnDemand) {
  const std::vector<AddedToken> tokens = {{.id = 1, .content = "<s>", .special = true},
                                          {.id = 2, .content = "<t>"}};

  EXPECT_EQ(cut(tokens, "a<s><t>", true), "a<s>|<2>");
}

TEST(AddedTokenMatcher, KeepsTheFirstOfTwoEqualPatterns) {
  EXPECT_EQ(cut({{.id = 1, .content = "x"}, {.id = 2, .content = "x"}}, "x"), "<1>");
}

}  // namespace
}  // namespace lockstep
