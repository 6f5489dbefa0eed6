#include "base/units.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <sstream>
#include <vector>

namespace lockstep {
namespace {

template <typename T>
concept Adds = requires(T a, T b) {
  a + b;
};

template <typename T>
std::string printed(const T& value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

TEST(Units, AmountsAddUpAndNamesDoNot) {
  TokenCount total = TokenCount(3) + TokenCount(4);
  total += TokenCount(5);

  EXPECT_EQ(total, TokenCount(12));
  EXPECT_EQ(total - TokenCount(20), TokenCount(-8));
  static_assert(Adds<TokenCount> && !Adds<PageId> && !Adds<RowOffset>);
  static_assert(!std::is_convertible_v<int32_t, TokenCount> && !std::is_convertible_v<TokenCount, int32_t>);
}

TEST(Units, CompareByTheirNumbers) {
  std::vector<Position> positions = {Position(3), Position(-1), Position(2)};
  std::sort(positions.begin(), positions.end());

  EXPECT_EQ(positions, (std::vector<Position>{Position(-1), Position(2), Position(3)}));
  EXPECT_LT(TokenCount(1), TokenCount(2));
  EXPECT_GE(TokenCount(2), TokenCount(2));
}

TEST(Units, ASkipIsNoNumberAndNoSlotIsASkip) {
  EXPECT_TRUE(SlotOrSkip().is_skip());
  EXPECT_TRUE(SlotOrSkip::skip().is_skip());
  EXPECT_FALSE(SlotOrSkip(0).is_skip());
  EXPECT_EQ(SlotOrSkip(int64_t{1} << 40).slot(), int64_t{1} << 40);
  EXPECT_TRUE(StateSlotOrSkip().is_skip());
  EXPECT_FALSE(StateSlotOrSkip(StateSlot(0)).is_skip());
  EXPECT_EQ(StateSlotOrSkip(StateSlot(9)).slot(), StateSlot(9));
  EXPECT_TRUE(TokenSource().is_literal());
  EXPECT_FALSE(TokenSource(0).is_literal());
  EXPECT_EQ(TokenSource(3).logits_row(), 3);
}

TEST(Units, PrintAsAPersonReadsThem) {
  EXPECT_EQ(printed(TokenId(-1)), "-1");
  EXPECT_EQ(printed(Epoch(18446744073709551615u)), "18446744073709551615");
  EXPECT_EQ(printed(SlotOrSkip()), "SKIP");
  EXPECT_EQ(printed(SlotOrSkip(5)), "5");
  EXPECT_EQ(printed(StateSlotOrSkip()), "SKIP");
  EXPECT_EQ(printed(StateSlotOrSkip(StateSlot(5))), "5");
  EXPECT_EQ(printed(TokenSource()), "literal");
  EXPECT_EQ(printed(TokenSource(2)), "2");
}

// The plan's image is read by kernels as plain integers.
TEST(Units, LieInMemoryAsTheirIntegers) {
  const SlotOrSkip skip;
  const TokenSource literal;
  int64_t slot = 0;
  int32_t source = 0;
  std::memcpy(&slot, &skip, sizeof(skip));
  std::memcpy(&source, &literal, sizeof(literal));

  EXPECT_EQ(slot, -1);
  EXPECT_EQ(source, -1);
  static_assert(sizeof(TokenSource) == 4 && sizeof(StateSlotOrSkip) == 4 && sizeof(Epoch) == 8);
}

}  // namespace
}  // namespace lockstep
