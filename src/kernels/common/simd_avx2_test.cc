#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "device/cpu_info.h"
#include "tensor/dtype.h"

// Up to pop_options everything is compiled for the vector type's instruction set, as its kernels are.
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#include "kernels/common/simd_avx2.h"
#include "kernels/common/simd_cases.h"

namespace lockstep {
namespace {

using V = avx2::Simd;

testing::WorstError exp_error() {
  return testing::compare<V>([](V::Reg x) { return simd_exp<V>(x); }, [](double x) { return std::exp(x); });
}
testing::WorstError sigmoid_error() {
  return testing::compare<V>([](V::Reg x) { return simd_sigmoid<V>(x); },
                             [](double x) { return 1 / (1 + std::exp(-x)); });
}
float exp_of_zero() {
  float lanes[V::kWidth];
  V::store(lanes, simd_exp<V>(V::zero()));
  return lanes[V::kWidth - 1];
}
int bf16_mismatches() { return testing::half_mismatches<V, BFloat16>(); }
int f16_mismatches() { return testing::half_mismatches<V, Float16>(); }
bool partial_access_is_exact() {
  return testing::partial_access_is_exact<V, float>() && testing::partial_access_is_exact<V, BFloat16>() &&
         testing::partial_access_is_exact<V, Float16>();
}
bool columns_are_right(int n) {
  return testing::columns_are_right<V, float>(n) && testing::columns_are_right<V, BFloat16>(n) &&
         testing::columns_are_right<V, Float16>(n);
}
bool transpose_is_right() { return testing::transpose_is_right<V>(); }
bool reductions_fold_halves() { return testing::reductions_fold_halves<V>(); }

}  // namespace
}  // namespace lockstep
#pragma GCC pop_options

namespace lockstep {
namespace {

class SimdAvx2 : public ::testing::Test {
 protected:
  void SetUp() override {
    if (detect_cpu().best < Isa::kAvx2) GTEST_SKIP() << "this processor has no avx2";
  }
};

TEST_F(SimdAvx2, RaisesEToAnyPowerWithinTwoUnits) {
  const testing::WorstError worst = exp_error();
  EXPECT_EQ(worst.wrong, 0);
  EXPECT_LE(worst.units, 2) << "at " << worst.at;
  EXPECT_EQ(exp_of_zero(), 1.0f);
}

TEST_F(SimdAvx2, EvaluatesTheSigmoidWithinFourUnits) {
  const testing::WorstError worst = sigmoid_error();
  EXPECT_EQ(worst.wrong, 0);
  EXPECT_LE(worst.units, 4) << "at " << worst.at;
}

TEST_F(SimdAvx2, ConvertsHalvesAsTheScalarTypesDo) {
  EXPECT_EQ(bf16_mismatches(), 0);
  EXPECT_EQ(f16_mismatches(), 0);
}

TEST_F(SimdAvx2, TouchesNoElementPastTheCount) { EXPECT_TRUE(partial_access_is_exact()); }

TEST_F(SimdAvx2, TurnsRowsIntoColumns) {
  EXPECT_TRUE(transpose_is_right());
  for (int n = 0; n <= 8; ++n) EXPECT_TRUE(columns_are_right(n)) << n;
}

TEST_F(SimdAvx2, FoldsHalvesOntoHalves) { EXPECT_TRUE(reductions_fold_halves()); }

}  // namespace
}  // namespace lockstep
