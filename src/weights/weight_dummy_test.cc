#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "weights/test_support.h"
#include "weights/weight_loader.h"

namespace lockstep {
namespace {

// A small model's worth of weights, each form of part once.
struct Toy {
  PackedWeight qkv, experts;
  TensorView norm, centred, decay, bias;
  WeightPlan plan{.family = "toy"};

  explicit Toy(DType dtype = DType::kBF16, WeightLayout layout = WeightLayout::kPanel32) {
    plan.matrices = {
        {.into = &qkv,
         .name = "qkv",
         .k = 101,
         .dtype = dtype,
         .layout = layout,
         .parts = {{.name = "q", .rows = 50, .order = {{25, 25}, {0, 25}}}, {.name = "k", .rows = 9}}},
        {.into = &experts,
         .name = "experts",
         .k = 64,
         .experts = 3,
         .dtype = dtype,
         .layout = layout,
         .parts = {{.name = "experts.{}.up", .rows = 20}, {.name = "packed", .rows = 4}}}};
    plan.tensors = {
        {.into = &norm, .name = "norm", .shape = {1000}, .fill = WeightFill::kNormPlain},
        {.into = &centred, .name = "centred", .shape = {1000}, .fill = WeightFill::kNormZeroCentred},
        {.into = &decay, .name = "A_log", .shape = {1000}, .fill = WeightFill::kDecayLog},
        {.into = &bias, .name = "dt_bias", .shape = {1000}, .fill = WeightFill::kTimeStepBias}};
  }

  LoadedWeights make(uint64_t seed, int threads = 1) {
    return make_dummy_weights(plan, seed, {.threads = threads}).value();
  }
};

std::string bytes_of(const LoadedWeights& weights, const PackedWeight& first) {
  const auto* data = static_cast<const char*>(first.data);
  return {data, data + weights.arena.used()};
}

TEST(DummyWeights, DependOnTheSeedAndNotOnTheThreads) {
  Toy a, b, c;
  const LoadedWeights one = a.make(42, 1), two = b.make(42, 3), other = c.make(43, 1);

  EXPECT_EQ(bytes_of(one, a.qkv), bytes_of(two, b.qkv));
  EXPECT_NE(bytes_of(one, a.qkv), bytes_of(other, c.qkv));
}

TEST(DummyWeights, AreTheSameInEveryLayoutAndRoundedInEveryType) {
  Toy rows(DType::kF32, WeightLayout::kRowMajor), panels(DType::kF32), halves(DType::kBF16), f16(DType::kF16);
  const LoadedWeights kept[] = {rows.make(1), panels.make(1), halves.make(1), f16.make(1)};

  for (int64_t row = 0; row < 59; ++row) {
    for (int64_t col = 0; col < 101; ++col) {
      const float value = element(rows.qkv, 0, row, col);
      ASSERT_EQ(element(panels.qkv, 0, row, col), value);
      ASSERT_EQ(element(halves.qkv, 0, row, col), static_cast<float>(BFloat16(value)));
      ASSERT_EQ(element(f16.qkv, 0, row, col), static_cast<float>(Float16(value)));
    }
  }
}

TEST(DummyWeights, BelongToTheSourceSoThatOneTensorMayServeTwice) {
  // A row keeps its values wherever an order puts it.
  Toy ordered, plain;
  plain.plan.matrices[0].parts[0].order = {};
  const LoadedWeights a = ordered.make(7), b = plain.make(7);

  for (int64_t row = 0; row < 50; ++row) {
    for (int64_t col = 0; col < 101; ++col) {
      ASSERT_EQ(element(ordered.qkv, 0, row, col), element(plain.qkv, 0, (row + 25) % 50, col));
    }
  }
}

TEST(DummyWeights, DifferBetweenTensorsRowsAndExperts) {
  Toy toy(DType::kF32);
  const LoadedWeights kept = toy.make(9);

  const auto same = [&](int64_t expert, int64_t row, int64_t other_expert, int64_t other_row) {
    int64_t equal = 0;
    for (int64_t col = 0; col < 64; ++col) {
      equal += element(toy.experts, expert, row, col) == element(toy.experts, other_expert, other_row, col);
    }
    return equal;
  };
  // Two independent values of 2^16 steps are equal once in 65536: one equal pair of 64 is already rare.
  EXPECT_LE(same(0, 0, 0, 1), 1);
  EXPECT_LE(same(0, 0, 1, 0), 1);
  EXPECT_LE(same(0, 21, 1, 21), 1) << "packed experts";
  EXPECT_LE(same(0, 20, 0, 21), 1);
}

struct Moments {
  double low = 1e9, high = -1e9, mean = 0, variance = 0;
};

template <typename At>
Moments moments_of(int64_t count, At at) {
  Moments moments;
  for (int64_t i = 0; i < count; ++i) {
    const double value = at(i);
    moments.low = std::min(moments.low, value);
    moments.high = std::max(moments.high, value);
    moments.mean += value / static_cast<double>(count);
  }
  for (int64_t i = 0; i < count; ++i) {
    moments.variance += std::pow(at(i) - moments.mean, 2) / static_cast<double>(count);
  }
  return moments;
}

TEST(DummyWeights, HaveTheSizeThatKeepsActivationsFinite) {
  Toy toy(DType::kF32);
  const LoadedWeights kept = toy.make(3);
  const auto matrix =
      moments_of(59 * 101, [&](int64_t i) { return double{element(toy.qkv, 0, i / 101, i % 101)}; });

  // Uniform in +-sqrt(3/K): variance 1/K. Of n samples the mean strays by sqrt(1/(K n)) and the variance by
  // sqrt(0.8/n) of itself (kurtosis 1.8); five times that is allowed.
  const double n = 59 * 101, k = 101;
  EXPECT_NEAR(matrix.mean, 0, 5 * std::sqrt(1 / (k * n)));
  EXPECT_NEAR(matrix.variance * k, 1, 5 * std::sqrt(0.8 / n));
  EXPECT_LT(matrix.high, std::sqrt(3 / k));
  EXPECT_GT(matrix.low, -std::sqrt(3 / k));
}

TEST(DummyWeights, GiveEachKindOfVectorItsRange) {
  Toy toy;
  const LoadedWeights kept = toy.make(3);
  const auto expect_range = [](const TensorView& tensor, double low, double high) {
    const auto found = moments_of(1000, [&](int64_t i) { return double{tensor.as<float>()[i]}; });
    // Of 1000 uniform samples the extremes come within 2% of the ends but for a chance of 2 * 0.98^1000 <
    // 4e-9.
    EXPECT_GE(found.low, low);
    EXPECT_LE(found.low, low + 0.02 * (high - low));
    EXPECT_LE(found.high, high);
    EXPECT_GE(found.high, high - 0.02 * (high - low));
  };

  expect_range(toy.norm, 0.9, 1.1);
  expect_range(toy.centred, -0.1, 0.1);
  expect_range(toy.decay, 0, std::log(16.0));
  expect_range(toy.bias, -6.9, -2.25);
}

TEST(DummyWeights, LeaveThePaddingZero) {
  Toy toy;
  const LoadedWeights kept = toy.make(3);
  const PackedWeight& weight = toy.qkv;  // 59 rows in 4 panels, 101 columns in 51 groups
  PackedWeight padded = weight;
  padded.n = 64;
  padded.k = 102;

  for (int64_t row = 0; row < 64; ++row) {
    for (int64_t col = 0; col < 102; ++col) {
      const bool is_padding = row >= 59 || col >= 101;
      ASSERT_TRUE(!is_padding || element(padded, 0, row, col) == 0.0f) << row << ", " << col;
    }
  }
}

TEST(DummyWeights, RefuseAPlanThatContradictsItself) {
  Toy toy;
  toy.plan.matrices[0].k = -1;

  EXPECT_EQ(make_dummy_weights(toy.plan, 1, {}).status().message(),
            "weights: q has shape [50, -1]; expected at least 1 in each dimension");
}

}  // namespace
}  // namespace lockstep
