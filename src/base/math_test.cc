#include "base/math.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

namespace lockstep {
namespace {

TEST(Math, CeilDivAndRoundUpAgreeWithCounting) {
  for (int64_t a = 0; a < 200; ++a) {
    for (int64_t b = 1; b < 20; ++b) {
      int64_t parts = 0;
      while (parts * b < a) ++parts;
      EXPECT_EQ(ceil_div(a, b), parts) << a << " / " << b;
      EXPECT_EQ(round_up(a, b), parts * b) << a << " to " << b;
    }
  }
}

TEST(Math, CeilDivDoesNotOverflowAtTheEnd) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(ceil_div(kMost, int64_t{1}), kMost);
  EXPECT_EQ(ceil_div(kMost, int64_t{2}), kMost / 2 + 1);
  EXPECT_EQ(ceil_div(kMost, kMost), 1);
  EXPECT_EQ(ceil_div(std::numeric_limits<int32_t>::max(), 64), 33554432);
}

TEST(Math, CheckedProductsAndSumsAgreeWithWideArithmetic) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 100000; ++i) {
    const auto a = static_cast<int32_t>(random() >> (32 + random() % 32));
    const auto b = static_cast<int32_t>(random() >> (32 + random() % 32)) * (random() % 2 == 0 ? 1 : -1);
    const int64_t product = int64_t{a} * b, sum = int64_t{a} + b;
    const auto fits = [](int64_t wide) { return wide == static_cast<int32_t>(wide); };
    EXPECT_EQ(checked_mul(a, b).has_value(), fits(product)) << a << " * " << b;
    EXPECT_EQ(checked_add(a, b).has_value(), fits(sum)) << a << " + " << b;
    EXPECT_EQ(checked_mul(a, b).value_or(0), fits(product) ? product : 0);
    EXPECT_EQ(checked_add(a, b).value_or(0), fits(sum) ? sum : 0);
  }
}

TEST(Math, CheckedArithmeticRefusesWhatOnlyJustDoesNotFit) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  constexpr uint64_t kAll = std::numeric_limits<uint64_t>::max();
  EXPECT_EQ(checked_add(kMost, int64_t{0}), kMost);
  EXPECT_EQ(checked_add(kMost, int64_t{1}), std::nullopt);
  EXPECT_EQ(checked_mul(kMost / 2, int64_t{2}), kMost - 1);
  EXPECT_EQ(checked_mul(kMost / 2 + 1, int64_t{2}), std::nullopt);
  EXPECT_EQ(checked_add(kAll, uint64_t{1}), std::nullopt);
  EXPECT_EQ(checked_mul(uint64_t{1} << 32, uint64_t{1} << 32), std::nullopt);
  EXPECT_EQ(checked_mul(uint64_t{1} << 32, (uint64_t{1} << 32) - 1), kAll - 0xFFFFFFFFu);
}

}  // namespace
}  // namespace lockstep
