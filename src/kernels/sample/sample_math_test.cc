#include "kernels/sample/sample_math.h"

#include <gtest/gtest.h>

#include <cmath>

namespace lockstep::sampling {
namespace {

TEST(SampleMath, ExponentialStaysWithinItsError) {
  for (int64_t i = 0; i <= 8'700'000; i += 7) {
    const auto x = static_cast<float>(-1e-5 * static_cast<double>(i));
    const double truth = std::exp(static_cast<double>(x));
    ASSERT_NEAR(exp_negative(x), truth, truth * 0x1p-23) << x;
  }
  EXPECT_EQ(exp_negative(0), 1.0f);
  EXPECT_EQ(exp_negative(-0x1p-30f), 1.0f);
  EXPECT_EQ(exp_negative(-88), 0.0f);
  EXPECT_EQ(exp_negative(-kLargest), 0.0f);
  EXPECT_EQ(exp_negative(-std::numeric_limits<float>::infinity()), 0.0f);
}

TEST(SampleMath, LogarithmStaysWithinItsError) {
  // Every 1013th positive normal float.
  for (uint32_t bits = 0x00800000u; bits < 0x7F800000u; bits += 1013) {
    const auto x = std::bit_cast<float>(bits);
    const double truth = std::log(static_cast<double>(x));
    ASSERT_NEAR(log_positive(x), truth, std::max(std::abs(truth) * 0x1p-23, 0x1p-24 * std::abs(x - 1.0)))
        << x;
  }
  EXPECT_EQ(log_positive(1), 0.0f);
}

// Known answers of the authors' library (Random123, kat_vectors: philox4x32 10). A token's counter is
// (v / 64 * 16 + v % 16, position, 0, 0), so only the vectors with zero in the upper half can be asked for;
// the other two fix the rounds themselves in the test below.
TEST(SampleMath, RandomBitsAreThoseOfPhilox) {
  EXPECT_EQ(random_bits(0, 0, 0), 0x6627E8D5u);
  EXPECT_EQ(random_bits(0, 0, 16), 0xE169C58Du);
  EXPECT_EQ(random_bits(0, 0, 32), 0xBC57AC4Cu);
  EXPECT_EQ(random_bits(0, 0, 48), 0x9B00DBD8u);
}

// philox4x32-10 written out once more, for any counter.
void philox(uint32_t (&word)[4], uint32_t low, uint32_t high) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * word[0], b = uint64_t{0xCD9E8D57u} * word[2];
    const uint32_t next[4] = {static_cast<uint32_t>(b >> 32) ^ word[1] ^ low, static_cast<uint32_t>(b),
                              static_cast<uint32_t>(a >> 32) ^ word[3] ^ high, static_cast<uint32_t>(a)};
    std::copy(next, next + 4, word);
    low += 0x9E3779B9u;
    high += 0xBB67AE85u;
  }
}

TEST(SampleMath, CountersAndKeysAreLaidOutAsDocumented) {
  uint32_t pi[4] = {0x243F6A88u, 0x85A308D3u, 0x13198A2Eu, 0x03707344u};
  philox(pi, 0xA4093822u, 0x299F31D0u);
  EXPECT_EQ(pi[0], 0xD16CFE09u);
  EXPECT_EQ(pi[1], 0x94FDCCEBu);
  EXPECT_EQ(pi[2], 0x5001E420u);
  EXPECT_EQ(pi[3], 0x24126EA1u);
  for (const uint32_t token : {0u, 5u, 17u, 63u, 64u, 100u, 151935u}) {
    uint32_t word[4] = {token / 64 * 16 + token % 16, 0xFFFFFFF9u, 0, 0};
    philox(word, 0x89ABCDEFu, 0x01234567u);
    EXPECT_EQ(random_bits(0x0123456789ABCDEFu, -7, token), word[token / 16 % 4]) << token;
  }
}

TEST(SampleMath, GumbelNoiseIsFiniteAndFollowsItsUniform) {
  const auto truth = [](uint32_t bits) {
    const double v = (static_cast<double>(bits >> 1) + 0.5) * 0x1p-31;
    return -std::log(-std::log1p(-v));
  };
  // Near v = 1 the step between floats below 1 is what is left: -ln(-ln(1 - v)) goes flat there, so its error
  // is that of v over (1 - v) |ln(1 - v)|.
  for (uint64_t bits = 0; bits <= 0xFFFFFFFFu; bits += 65'521) {
    const double v = (static_cast<double>(bits >> 1) + 0.5) * 0x1p-31;
    const double slope = 1 / ((1 - v) * std::abs(std::log1p(-v)));
    const double expected = truth(static_cast<uint32_t>(bits));
    const double tolerance = 0x1p-24 * (slope * v + 8 + 4 * std::abs(expected));
    ASSERT_NEAR(gumbel(static_cast<uint32_t>(bits)), expected, tolerance) << bits;
  }
  EXPECT_NEAR(gumbel(0), 32 * std::log(2.0), 1e-5);
  EXPECT_LT(gumbel(0), kGumbelMax);
  EXPECT_NEAR(gumbel(0xFFFFFFFFu), -std::log(24 * std::log(2.0)), 1e-5);
  EXPECT_GT(gumbel(1u << 31), gumbel(0xC0000000u));
}

TEST(SampleMath, MassesAddUpExactly) {
  EXPECT_EQ(mass_of(0), 0u);
  EXPECT_EQ(mass_of(1), uint64_t{1} << 44);
  EXPECT_EQ(mass_of(0x1p-44f), 1u);
  EXPECT_EQ(mass_of(0x1p-45f), 0u);    // half a unit: to even
  EXPECT_EQ(mass_of(0x1.8p-44f), 2u);  // one and a half: to even
  EXPECT_EQ(mass_of(0.75f), uint64_t{3} << 42);
}

TEST(SampleMath, OrderOfFloatsIsTheirOrder) {
  const float ascending[] = {-kLargest, -1.5f, -1.0f, -0x1p-149f, -0.0f, 0.0f, 0x1p-149f, 1.0f, kLargest};
  for (size_t i = 1; i < std::size(ascending); ++i) {
    EXPECT_LT(order_of(ascending[i - 1]), order_of(ascending[i])) << i;
  }
}

TEST(SampleMath, FiniteHoldsWhatIsNotFinite) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(finite(infinity), kLargest);
  EXPECT_EQ(finite(-infinity), -kLargest);
  EXPECT_EQ(finite(std::numeric_limits<float>::quiet_NaN()), -kLargest);
  EXPECT_EQ(finite(kLargest), kLargest);
  EXPECT_EQ(finite(-2.5f), -2.5f);
}

TEST(SampleMath, PenaltiesTellThePromptFromTheOutput) {
  const Penalties by{.repetition = 2, .presence = 0.5f, .frequency = 0.25f};
  EXPECT_EQ(penalised(3, 0, by), 3.0f);                     // never seen
  EXPECT_EQ(penalised(3, 1, by), 1.5f);                     // in the prompt only
  EXPECT_EQ(penalised(-3, 1, by), -6.0f);                   // a negative logit is multiplied
  EXPECT_EQ(penalised(3, 4, by), 1.5f - 2 * 0.25f - 0.5f);  // twice in the output
  EXPECT_EQ(penalised(3, 5, by), 1.5f - 2 * 0.25f - 0.5f);  // and in the prompt
}

}  // namespace
}  // namespace lockstep::sampling
