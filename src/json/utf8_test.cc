#include "json/utf8.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

TEST(Utf8, ReadsBackEveryScalarValueItWrites) {
  for (char32_t code = 0; code <= 0x10FFFF; ++code) {
    if (code >= 0xD800 && code < 0xE000) continue;
    std::string text;
    append_utf8(text, code);
    const Utf8Char read = decode_utf8(text, 0);
    ASSERT_TRUE(read.state == Utf8State::kValid && read.code == code && read.size == text.size())
        << static_cast<uint32_t>(code);
  }
}

TEST(Utf8, FindsOverlongFormsSurrogatesAndStrayBytes) {
  for (const char* text : {"ab\xC0\x80", "ab\xE0\x80\x80", "ab\xED\xA0\x80", "ab\xF4\x90\x80\x80", "ab\x80",
                           "ab\xF0\x9F\x98", "ab\xFF"})
    EXPECT_EQ(find_invalid_utf8(text), 2u);
  EXPECT_EQ(find_invalid_utf8("aé€😀"), std::nullopt);
}

TEST(Utf8, TellsACutCharacterFromABrokenOne) {
  EXPECT_EQ(decode_utf8("\xF0\x9F\x98", 0).state, Utf8State::kTruncated);
  EXPECT_EQ(decode_utf8("\xF0\x9F\x98", 0).size, 3);
  EXPECT_EQ(decode_utf8("\xF0\x9Fx", 0).state, Utf8State::kInvalid);
  EXPECT_EQ(decode_utf8("\xF0\x9Fx", 0).size, 2);
}

TEST(Utf8, ReplacesEachLongestBrokenPartOnce) {
  std::string out;
  append_lossy_utf8(out, "a\xF0\x9F\x98x\xFF\xFE\xE2\x82");

  EXPECT_EQ(out, "a\uFFFDx\uFFFD\uFFFD\uFFFD");
}

TEST(Utf8, ExcerptsWholeCharactersFitForAMessage) {
  EXPECT_EQ(excerpt("short", 5), "short");
  EXPECT_EQ(excerpt("ab€", 4), "ab...");
  EXPECT_EQ(excerpt("a\nb\xFF", 9), "a?b?");
}

}  // namespace
}  // namespace lockstep
