#include "kernels/sample/sample_select.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/sample/sample_math.h"

namespace lockstep::sampling {
namespace {

constexpr float kOut = -std::numeric_limits<float>::infinity();

struct Problem {
  std::vector<float> values;
  std::vector<float> weights;
  std::vector<uint64_t> order;

  explicit Problem(std::vector<float> of)
      : values(std::move(of)), weights(values.size()), order(values.size()) {
    for (size_t v = 0; v < values.size(); ++v) weights[v] = exp_negative(values[v] - largest());
  }
  float largest() const { return *std::max_element(values.begin(), values.end()); }

  // The kept tokens, ascending.
  std::vector<int32_t> kept(int32_t top_k, float top_p) {
    const Cut cut = select({.values = values.data(),
                            .weights = weights.data(),
                            .count = static_cast<int64_t>(values.size()),
                            .largest = largest(),
                            .order = order.data()},
                           top_k, top_p);
    std::vector<int32_t> tokens;
    for (size_t v = 0; v < values.size(); ++v) {
      const auto token = static_cast<int32_t>(v);
      if (values[v] > cut.value || (values[v] == cut.value && token <= cut.token)) tokens.push_back(token);
    }
    return tokens;
  }

  // The same by sorting everything.
  std::vector<int32_t> naive(int32_t top_k, float top_p) const {
    std::vector<int32_t> ranked;
    for (size_t v = 0; v < values.size(); ++v) {
      if (values[v] != kOut) ranked.push_back(static_cast<int32_t>(v));
    }
    const auto value = [&](int32_t token) { return values[static_cast<size_t>(token)]; };
    const auto mass = [&](int32_t token) { return mass_of(weights[static_cast<size_t>(token)]); };
    std::stable_sort(ranked.begin(), ranked.end(), [&](int32_t a, int32_t b) { return value(a) > value(b); });
    if (top_k > 0 && static_cast<size_t>(top_k) < ranked.size()) ranked.resize(static_cast<size_t>(top_k));
    if (top_p < 1) {
      uint64_t total = 0, above = 0;
      for (const int32_t token : ranked) total += mass(token);
      size_t inside = 0;
      while (inside < ranked.size() &&
             static_cast<double>(above) < static_cast<double>(top_p) * static_cast<double>(total)) {
        above += mass(ranked[inside++]);
      }
      ranked.resize(std::max<size_t>(inside, 1));
    }
    std::sort(ranked.begin(), ranked.end());
    return ranked;
  }
};

TEST(SampleSelect, CutsByRankWithTiesToTheLowerToken) {
  Problem problem({1, 3, 2, 3, 2, 0});
  EXPECT_EQ(problem.kept(1, 1), (std::vector<int32_t>{1}));
  EXPECT_EQ(problem.kept(2, 1), (std::vector<int32_t>{1, 3}));
  EXPECT_EQ(problem.kept(3, 1), (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(problem.kept(6, 1), (std::vector<int32_t>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(problem.kept(0, 1), (std::vector<int32_t>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(problem.kept(99, 1), (std::vector<int32_t>{0, 1, 2, 3, 4, 5}));
}

TEST(SampleSelect, CutsWhereTheMassAboveReachesTopP) {
  Problem problem({0, 0, 0, 0});  // a quarter each
  EXPECT_EQ(problem.kept(0, 0.25f), (std::vector<int32_t>{0}));
  EXPECT_EQ(problem.kept(0, 0.26f), (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(problem.kept(0, 0.75f), (std::vector<int32_t>{0, 1, 2}));
  EXPECT_EQ(problem.kept(0, 0.99f), (std::vector<int32_t>{0, 1, 2, 3}));
  EXPECT_EQ(problem.kept(0, 0.0f), (std::vector<int32_t>{0}));
  EXPECT_EQ(problem.kept(2, 0.5f), (std::vector<int32_t>{0}));  // of the two that top-k leaves
  EXPECT_EQ(problem.kept(0, std::numeric_limits<float>::quiet_NaN()), (std::vector<int32_t>{0, 1, 2, 3}));
}

TEST(SampleSelect, TreatsTheTwoZerosAsEqual) {
  Problem problem({-0.0f, 0.0f, -0.0f});
  EXPECT_EQ(problem.kept(1, 1), (std::vector<int32_t>{0}));
  EXPECT_EQ(problem.kept(2, 1), (std::vector<int32_t>{0, 1}));
}

TEST(SampleSelect, EqualsSortingEverything) {
  for (uint32_t seed = 1; seed <= 40; ++seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    const size_t size = seed % 4 == 0 ? 5003 : 1 + random() % 300;
    const float spread = std::vector<float>{0.001f, 1, 5, 60}[seed % 4];
    std::vector<float> values(size);
    for (float& value : values) {
      value = spread * normal(random);
      if (seed % 3 == 0) value = std::round(value);          // many ties
      if (seed % 5 == 0 && random() % 4 == 0) value = kOut;  // some out already
    }
    values[0] = 1;  // at least one stays
    Problem problem(values);
    for (const int32_t top_k : {0, 1, 2, 20, 257, 4000, 6000}) {
      for (const float top_p : {1.0f, 0.0f, 1e-6f, 0.1f, 0.5f, 0.9f, 0.99f, 0.99999994f}) {
        ASSERT_EQ(problem.kept(top_k, top_p), problem.naive(top_k, top_p))
            << "seed " << seed << " top_k " << top_k << " top_p " << top_p;
      }
    }
  }
}

}  // namespace
}  // namespace lockstep::sampling
