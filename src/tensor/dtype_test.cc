#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string>

namespace lockstep {
namespace {

constexpr uint32_t kBothEnds[] = {0, 0x8000u};  // plus and minus

// The value of a finite half type's bits, from the definition of the format: `mantissa` bits, exponent
// `bias`.
double value_of(uint32_t magnitude, int mantissa, int bias) {
  const int exponent = static_cast<int>(magnitude >> mantissa);
  const double fraction = magnitude & ((1u << mantissa) - 1);
  const double unit = std::ldexp(1.0, -mantissa);
  return exponent == 0 ? std::ldexp(fraction * unit, 1 - bias)
                       : std::ldexp(1.0 + fraction * unit, exponent - bias);
}

float f32(uint32_t bits) { return std::bit_cast<float>(bits); }

TEST(Float16, EveryPatternReadsAsTheFormatSays) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = Float16::from_bits(static_cast<uint16_t>(bits));
    const uint32_t magnitude = bits & 0x7FFFu;
    EXPECT_EQ(std::signbit(value), bits >= 0x8000u) << bits;
    if (magnitude > 0x7C00u) {
      EXPECT_TRUE(std::isnan(value)) << bits;
    } else if (magnitude == 0x7C00u) {
      EXPECT_TRUE(std::isinf(value)) << bits;
    } else {
      EXPECT_EQ(std::abs(value), value_of(magnitude, 10, 15)) << bits;
    }
    EXPECT_TRUE(std::isnan(value) || Float16::to_bits(value) == bits) << bits;
  }
}

// Rounding changes its answer only at the middle between two neighbours, and every such middle is an f32: so
// the middle and the f32 on either side of it prove every rounding that there is.
TEST(Float16, RoundsToTheNearestAndTiesToEven) {
  for (uint32_t low = 0; low < 0x7C00u; ++low) {
    const double next = low + 1 == 0x7C00u ? 65536.0 : value_of(low + 1, 10, 15);
    const auto middle = static_cast<float>((value_of(low, 10, 15) + next) / 2);
    ASSERT_EQ(middle, (value_of(low, 10, 15) + next) / 2) << low;
    for (const uint32_t sign : kBothEnds) {
      const float s = sign != 0 ? -1.0f : 1.0f;
      EXPECT_EQ(Float16::to_bits(s * std::nextafter(middle, 0.0f)), sign | low) << low;
      EXPECT_EQ(Float16::to_bits(s * middle), sign | (low % 2 == 0 ? low : low + 1)) << low;
      EXPECT_EQ(Float16::to_bits(s * std::nextafter(middle, HUGE_VALF)), sign | (low + 1)) << low;
    }
  }
}

TEST(Float16, OverflowsToInfinityAndUnderflowsToZeroWithTheSign) {
  EXPECT_EQ(Float16(65519.996f).bits, 0x7BFF);
  EXPECT_EQ(Float16(65520.0f).bits, 0x7C00);
  EXPECT_EQ(Float16(-3e38f).bits, 0xFC00);
  EXPECT_EQ(Float16(f32(0x7F800000u)).bits, 0x7C00);
  EXPECT_EQ(Float16(f32(1)).bits, 0);
  EXPECT_EQ(Float16(-0.0f).bits, 0x8000);
  EXPECT_EQ(Float16(-0x1p-25f).bits, 0x8000);  // half of the least subnormal: ties to zero
}

TEST(BFloat16, RoundsToTheNearestAndTiesToEven) {
  for (uint32_t high = 0; high < 0x7F80u; ++high) {
    const double below = value_of(high, 7, 127);
    const double above = high + 1 == 0x7F80u ? 0x1p128 : value_of(high + 1, 7, 127);
    for (const uint32_t low : {0x0u, 0x1u, 0x1234u, 0x7FFFu, 0x8000u, 0x8001u, 0xFFFFu}) {
      const double value = f32((high << 16) | low);
      const double down = value - below, up = above - value;
      const bool stays = down < up || (down == up && high % 2 == 0);
      for (const uint32_t sign : kBothEnds) {
        const BFloat16 rounded(f32((sign << 16) | (high << 16) | low));
        EXPECT_EQ(rounded.bits, sign | (stays ? high : high + 1)) << high << " " << low;
      }
    }
  }
}

TEST(BFloat16, EveryPatternSurvivesTheWayThroughF32) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    BFloat16 half;
    half.bits = static_cast<uint16_t>(bits);
    const auto value = static_cast<float>(half);
    EXPECT_EQ(std::bit_cast<uint32_t>(value), bits << 16);
    EXPECT_TRUE(std::isnan(value) || BFloat16(value).bits == bits) << bits;
  }
}

TEST(HalfTypes, KeepNansAsQuietNansWithTheirSign) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 100000; ++i) {
    const uint32_t payload = static_cast<uint32_t>(random()) & 0x7FFFFFu;
    const uint32_t sign = i % 2 == 0 ? 0x80000000u : 0;
    const float nan = f32(sign | 0x7F800000u | (payload != 0 ? payload : 1));
    const BFloat16 wide(nan);
    EXPECT_TRUE(std::isnan(static_cast<float>(wide))) << payload;
    EXPECT_NE(wide.bits & 0x40, 0) << payload;
    const Float16 narrow(nan);
    EXPECT_TRUE(std::isnan(static_cast<float>(narrow))) << payload;
    EXPECT_NE(narrow.bits & 0x200, 0) << payload;
    EXPECT_EQ(wide.bits >> 15, narrow.bits >> 15);
    EXPECT_EQ(wide.bits >> 15, sign >> 31);
  }
}

TEST(DType, IsFoundByTheNameThatSafetensorsGivesIt) {
  for (int i = 0; i <= static_cast<int>(DType::kF8E5M2); ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(dtype_from_safetensors(info_of(dtype).safetensors), dtype) << dtype;
  }
  EXPECT_EQ(dtype_from_safetensors("BF16"), DType::kBF16);
  EXPECT_EQ(dtype_from_safetensors("bf16"), std::nullopt);
  EXPECT_EQ(dtype_from_safetensors(""), std::nullopt);
}

template <typename T>
void expect_width(DType dtype) {
  EXPECT_EQ(DTypeOf<T>::value, dtype);
  EXPECT_EQ(size_of(dtype), static_cast<int64_t>(sizeof(T))) << dtype;
}

TEST(DType, IsAsWideAsItsType) {
  expect_width<float>(DType::kF32);
  expect_width<double>(DType::kF64);
  expect_width<BFloat16>(DType::kBF16);
  expect_width<Float16>(DType::kF16);
  expect_width<int64_t>(DType::kI64);
  expect_width<int32_t>(DType::kI32);
  expect_width<uint64_t>(DType::kU64);
  expect_width<uint32_t>(DType::kU32);
  expect_width<uint8_t>(DType::kU8);
  for (const DType one : {DType::kBool, DType::kI8, DType::kF8E4M3, DType::kF8E5M2})
    EXPECT_EQ(size_of(one), 1);
  for (const DType two : {DType::kI16, DType::kU16}) EXPECT_EQ(size_of(two), 2);
}

TEST(DType, CallsTheBodyWithTheTypeOfTheDType) {
  const auto bytes = []<typename T>() { return std::string(name_of(DTypeOf<T>::value)); };
  EXPECT_EQ(with_float_type(DType::kF32, bytes), "f32");
  EXPECT_EQ(with_float_type(DType::kF16, bytes), "f16");
  EXPECT_EQ(with_float_type(DType::kBF16, bytes), "bf16");
}

}  // namespace
}  // namespace lockstep
