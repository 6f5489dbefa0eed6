#include <gtest/gtest.h>

#include <cmath>

#include "kernels/linear/matmul_case.h"

namespace lockstep {
namespace {

using namespace matmul_test;  // NOLINT

constexpr DType kTypes[] = {DType::kF32, DType::kF16, DType::kBF16};

// A target whose every byte is set, so that what packing leaves out shows as NaN.
struct Target {
  std::vector<char> memory;
  PackedWeight weight;

  Target(DType dtype, WeightLayout layout, int64_t experts, int64_t n, int64_t k)
      : weight{.dtype = dtype, .layout = layout, .experts = experts, .n = n, .k = k} {
    weight.expert_stride = packed_elements(dtype, layout, n, k);
    memory.assign(static_cast<size_t>(weight.expert_stride * experts * size_of(dtype)), '\xFF');
    weight.data = memory.data();
  }
  float element(int64_t index) const {
    return with_float_type(weight.dtype, [&]<typename T>() {
      return static_cast<float>(static_cast<const T*>(weight.data)[index]);
    });
  }
  float at(int64_t expert, int64_t row, int64_t col) const {
    return element(expert * weight.expert_stride + packed_offset(weight, row, col));
  }
};

// The values in another element type, and as f32 again.
struct Source {
  std::vector<char> memory;
  std::vector<float> values;
  TensorView view;

  Source(const std::vector<float>& given, DType dtype, int64_t n, int64_t k)
      : memory(given.size() * static_cast<size_t>(size_of(dtype))), values(given) {
    with_float_type(dtype, [&]<typename T>() {
      for (size_t i = 0; i < given.size(); ++i) reinterpret_cast<T*>(memory.data())[i] = T(given[i]);
    });
    for (float& value : values) value = rounded(value, dtype);
    view = dense_view(memory.data(), dtype, {n, k});
  }
};

TEST(PackRows, ConvertsEveryTypeIntoEveryLayout) {
  const int64_t shapes[][2] = {{1, 1}, {3, 5}, {32, 4}, {33, 7}, {70, 64}};
  for (const DType from : kTypes) {
    for (const DType to : kTypes) {
      for (const WeightLayout layout : {WeightLayout::kRowMajor, WeightLayout::kPanel32}) {
        for (const auto& [n, k] : shapes) {
          SCOPED_TRACE(concat(from, " to ", to, " layout ", static_cast<int>(layout), " N ", n, " K ", k));
          const Source source(random_values(n * k, 23), from, n, k);
          Target target(to, layout, 2, n, k);

          pack_rows(source.view, target.weight, 1, 0);

          for (int64_t row = 0; row < n; ++row) {
            for (int64_t col = 0; col < k; ++col) {
              ASSERT_EQ(target.at(1, row, col),
                        rounded(source.values[static_cast<size_t>(row * k + col)], to));
              ASSERT_TRUE(std::isnan(target.at(0, row, col))) << "another expert was written";
            }
          }
        }
      }
    }
  }
}

TEST(PackRows, PutsPanelsAsTheirDescriptionSays) {
  // Column c of a panel lies at c * G; two k of a half type side by side, 32 columns to a line.
  const Source source({1, 2, 3, 4, 5, 6}, DType::kF32, 2, 3);
  Target half(DType::kBF16, WeightLayout::kPanel32, 1, 2, 3),
      full(DType::kF32, WeightLayout::kPanel32, 1, 2, 3);

  pack_rows(source.view, half.weight, 0, 0);
  pack_rows(source.view, full.weight, 0, 0);

  EXPECT_EQ(half.weight.expert_stride, 32 * 4);
  EXPECT_EQ(half.element(0), 1);
  EXPECT_EQ(half.element(1), 2);
  EXPECT_EQ(half.element(2), 4);
  EXPECT_EQ(half.element(3), 5);
  EXPECT_EQ(half.element(64), 3);
  EXPECT_EQ(half.element(66), 6);
  EXPECT_EQ(full.weight.expert_stride, 32 * 3);
  EXPECT_EQ(full.element(0), 1);
  EXPECT_EQ(full.element(1), 4);
  EXPECT_EQ(full.element(32), 2);
  EXPECT_EQ(full.element(65), 6);
}

TEST(PackRows, ZeroesThePaddingWithTheLastRow) {
  for (const DType to : kTypes) {
    constexpr int64_t kN = 35, kK = 5;
    const Source source(random_values(kN * kK, 23), DType::kF32, kN, kK);
    Target target(to, WeightLayout::kPanel32, 1, kN, kK);

    pack_rows(source.view.rows(0, 34), target.weight, 0, 0);
    EXPECT_TRUE(std::isnan(target.at(0, 34, 0))) << to;
    EXPECT_TRUE(std::isnan(target.at(0, 63, 0))) << to;
    pack_rows(source.view.rows(34, 1), target.weight, 0, 34);

    std::vector<bool> real(static_cast<size_t>(target.weight.expert_stride));
    for (int64_t row = 0; row < kN; ++row) {
      for (int64_t col = 0; col < kK; ++col)
        real[static_cast<size_t>(packed_offset(target.weight, row, col))] = true;
    }
    for (int64_t i = 0; i < target.weight.expert_stride; ++i) {
      ASSERT_EQ(target.element(i) == 0, !real[static_cast<size_t>(i)]) << to << " element " << i;
    }
  }
}

TEST(PackRows, FusesSeveralMatricesIntoOne) {
  constexpr int64_t kK = 9;
  const int64_t parts[] = {40, 1, 23};
  for (const WeightLayout layout : {WeightLayout::kRowMajor, WeightLayout::kPanel32}) {
    const Source whole(random_values(64 * kK, 41), DType::kBF16, 64, kK);
    Target fused(DType::kBF16, layout, 1, 64, kK), once(DType::kBF16, layout, 1, 64, kK);

    int64_t row = 0;
    for (const int64_t part : parts) {
      pack_rows(whole.view.rows(row, part), fused.weight, 0, row);
      row += part;
    }
    pack_rows(whole.view, once.weight, 0, 0);

    EXPECT_EQ(fused.memory, once.memory);
  }
}

TEST(PackRows, RoundsToNearestEven) {
  // 1 + 2^-8 lies between the bf16 numbers 1 and 1 + 2^-7, 1 + 3 * 2^-8 between 1 + 2^-7 and 1 + 2^-6.
  const Source source({1 + 0x1p-8f, 1 + 0x3p-8f, 1 + 0x1p-8f + 0x1p-20f, -3e38f}, DType::kF32, 1, 4);
  Target target(DType::kBF16, WeightLayout::kPanel32, 1, 1, 4);

  pack_rows(source.view, target.weight, 0, 0);

  EXPECT_EQ(target.at(0, 0, 0), 1.0f);
  EXPECT_EQ(target.at(0, 0, 1), 1 + 0x1p-6f);
  EXPECT_EQ(target.at(0, 0, 2), 1 + 0x1p-7f);
  EXPECT_EQ(target.at(0, 0, 3), static_cast<float>(BFloat16(-3e38f)));
}

TEST(PackRows, KeepsTheBitsOfItsOwnType) {
  std::vector<BFloat16> bits(4);
  bits[0].bits = 0x7F81;  // a signalling NaN
  bits[1].bits = 0x8000;  // minus zero
  bits[2].bits = 0x0001;  // the least subnormal
  bits[3].bits = 0xFF80;  // minus infinity
  Target target(DType::kBF16, WeightLayout::kPanel32, 1, 1, 4);

  pack_rows(view(bits, {1, 4}), target.weight, 0, 0);

  const auto* packed = static_cast<const BFloat16*>(target.weight.data);
  for (int64_t k = 0; k < 4; ++k) {
    EXPECT_EQ(packed[packed_offset(target.weight, 0, k)].bits, bits[static_cast<size_t>(k)].bits) << k;
  }
}

TEST(PackRows, ReadsRowsOfAWiderMatrix) {
  std::vector<float> wide = random_values(3 * 10, 7);
  Target target(DType::kF32, WeightLayout::kPanel32, 1, 3, 4);

  pack_rows(view(wide, {3, 10}).columns(2, 4), target.weight, 0, 0);

  for (int64_t row = 0; row < 3; ++row) {
    for (int64_t col = 0; col < 4; ++col) {
      EXPECT_EQ(target.at(0, row, col), wide[static_cast<size_t>(row * 10 + 2 + col)]);
    }
  }
}

}  // namespace
}  // namespace lockstep
