#include "model/decays.h"

#include <gtest/gtest.h>

#include <cmath>

namespace lockstep {
namespace {

std::vector<float> decays_of(const std::vector<double>& slopes) {
  std::vector<float> decays;
  for (const double slope : slopes) decays.push_back(static_cast<float>(std::exp(-slope)));
  return decays;
}

TEST(LightningDecays, HalveTheirSlopesFromHeadToHeadForAPowerOfTwo) {
  EXPECT_EQ(lightning_decays({.heads = 4, .model_heads = 4}), decays_of({0.25, 0.0625, 1 / 64.0, 1 / 256.0}));
  const std::vector<float> many = lightning_decays({.heads = 32, .model_heads = 32});
  EXPECT_FLOAT_EQ(many[0], static_cast<float>(std::exp(-0.8408964152537145)));
  EXPECT_EQ(many[31], static_cast<float>(std::exp(-0.00390625)));
}

TEST(LightningDecays, TakeEveryOtherSlopeOfTwiceThePowerForTheHeadsBeyondIt) {
  // Of 8: 1/2, 1/4, 1/8, ...; every other one from the first: 1/2, 1/8.
  EXPECT_EQ(lightning_decays({.heads = 6, .model_heads = 6}),
            decays_of({0.25, 0.0625, 1 / 64.0, 1 / 256.0, 0.5, 0.125}));
}

TEST(LightningDecays, FollowFromAHeadsNumberInTheModelOnEveryRank) {
  EXPECT_EQ(lightning_decays({.heads = 3, .model_heads = 6, .first_head = 3}),
            decays_of({1 / 256.0, 0.5, 0.125}));
}

}  // namespace
}  // namespace lockstep
