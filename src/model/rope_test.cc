// Numbers of this file are worked out apart, in double precision, from the formulas in the papers. Ours are
// computed in f32 as the reference models do: a power of a value up to 1e6 is off by a few units in the last
// place, so 8 * 2^-24 relative holds for every one.
#include "model/rope.h"

#include <gtest/gtest.h>

#include <cmath>

namespace lockstep {
namespace {

constexpr double kTolerance = 8 * 0x1p-24;

struct Expected {
  size_t index;
  double frequency;
};

void expect_frequencies(const RopeSpec& rope, std::initializer_list<Expected> expected) {
  const std::vector<float> frequencies = rope_frequencies(rope);
  ASSERT_EQ(frequencies.size(), static_cast<size_t>(rope.dims / 2));
  for (const Expected& each : expected) {
    EXPECT_NEAR(frequencies[each.index], each.frequency, kTolerance * each.frequency) << "at " << each.index;
  }
}

TEST(RopeFrequencies, FallByPowersOfTheta) {
  const RopeSpec rope{.dims = 8, .theta = 10000.0};
  expect_frequencies(rope, {{0, 1.0}, {1, 0.1}, {2, 0.01}, {3, 0.001}});
  EXPECT_EQ(rope_magnitude(rope), 1.0f);
}

TEST(RopeFrequencies, AreDividedByALinearFactor) {
  const RopeSpec rope{.dims = 8, .theta = 10000.0, .scaling = RopeSpec::Scaling::kLinear, .factor = 4};
  expect_frequencies(rope, {{0, 0.25}, {1, 0.025}, {2, 0.0025}, {3, 0.00025}});
  EXPECT_EQ(rope_magnitude(rope), 1.0f);
}

// Llama 3.1: short waves stay, long ones are stretched eightfold, those in between are blended.
TEST(RopeFrequencies, FollowTheRuleOfLlama3) {
  const RopeSpec rope{.dims = 128,
                      .theta = 500000.0,
                      .scaling = RopeSpec::Scaling::kLlama3,
                      .factor = 8,
                      .original_max_positions = 8192,
                      .low_freq_factor = 1,
                      .high_freq_factor = 4};
  expect_frequencies(rope, {{0, 1.0},
                            {10, 0.12868737343265052},
                            {28, 0.003211445994752591},
                            {29, 0.002166570763503359},
                            {30, 0.0013718935677611381},
                            {34, 0.0001785078127679964},
                            {35, 9.556212353964683e-05},
                            {36, 7.78465527393245e-05},
                            {63, 3.068925988914511e-07}});
  EXPECT_EQ(rope_magnitude(rope), 1.0f);
}

// Qwen3's long-context recipe: fast dimensions 0..23 stay, slow ones from 40 on are divided, a ramp between.
TEST(RopeFrequencies, FollowYarn) {
  RopeSpec rope{.dims = 128,
                .theta = 1e6,
                .scaling = RopeSpec::Scaling::kYarn,
                .factor = 4,
                .original_max_positions = 32768};
  expect_frequencies(rope, {{0, 1.0},
                            {23, 0.006978305848598663},
                            {24, 0.005375321490790102},
                            {30, 0.001064360981247002},
                            {39, 6.490394320837029e-05},
                            {40, 4.445698525097307e-05},
                            {41, 3.582531425592407e-05},
                            {63, 3.102344401879299e-07}});
  EXPECT_NEAR(rope_magnitude(rope), 1.138629436111989, 1e-7);
  rope.attention_factor = 1.25;
  EXPECT_EQ(rope_magnitude(rope), 1.25f);
}

// Where both ends of the ramp fall on one dimension, it is a step and not a division by zero.
TEST(RopeFrequencies, OfYarnStayFiniteWhenTheRampHasNoLength) {
  const RopeSpec rope{.dims = 2,
                      .theta = 10000.0,
                      .scaling = RopeSpec::Scaling::kYarn,
                      .factor = 4,
                      .original_max_positions = 4};
  for (const float frequency : rope_frequencies(rope)) EXPECT_TRUE(std::isfinite(frequency) && frequency > 0);
}

TEST(RopeFrequencies, OfNoDimensionsAreNone) { EXPECT_TRUE(rope_frequencies({.dims = 0}).empty()); }

}  // namespace
}  // namespace lockstep
