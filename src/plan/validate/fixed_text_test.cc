#include "plan/validate/fixed_text.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace lockstep {
namespace {

TEST(FixedText, JoinsNumbersAndQuantities) {
  EXPECT_EQ(FixedText(), "");
  EXPECT_EQ(FixedText("rows ", 26, "..", RowIndex(29), " and ", Hex{0xBEEF}), "rows 26..29 and beef");
  EXPECT_EQ(FixedText(0.5f, " ", std::numeric_limits<float>::infinity()), "0.5 inf");
  EXPECT_EQ(FixedText(std::numeric_limits<int64_t>::min()), "-9223372036854775808");
  EXPECT_EQ(FixedText(SlotOrSkip::skip(), " ", SlotOrSkip(7), " ", StateSlotOrSkip(StateSlot(-2))),
            "SKIP 7 -2");
  EXPECT_EQ(FixedText(TokenSource::literal(), " ", TokenSource(3)), "literal 3");
  EXPECT_EQ(FixedText(Counted{1, "page"}, " ", Counted{0, "row"}), "1 page 0 rows");
}

TEST(FixedText, CutsOffWhatDoesNotFit) {
  const std::string text(FixedText::kCapacity - 3, 'x');

  EXPECT_EQ(FixedText(text, 123456, "more"), text + "123");
}

}  // namespace
}  // namespace lockstep
