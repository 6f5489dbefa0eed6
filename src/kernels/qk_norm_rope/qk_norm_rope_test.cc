#include "kernels/qk_norm_rope/qk_norm_rope.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/common/test_support.h"

namespace lockstep {
namespace {

using namespace testing;  // NOLINT

constexpr double kUnit = 0x1p-24;  // relative error of one f32 rounding

// Heads are slices of a wider row, as in a fused projection; pad rows and gaps are NaN.
struct RopeProblem {
  int64_t rows, heads, size, rotary;
  LiveRows num_rows;
  bool with_norm;
  NormFlavour flavour = NormFlavour::kPlain;
  std::vector<float> x, weight, cos_sin, out;

  RopeProblem(int64_t of_rows, int64_t live, int64_t of_heads, int64_t of_size, int64_t of_rotary, bool norm)
      : rows(of_rows), heads(of_heads), size(of_size), rotary(of_rotary), num_rows(live), with_norm(norm) {
    std::mt19937 random(3);
    weight = random_floats(static_cast<size_t>(size), random, 2.0f);
    x = nans(rows * row_stride());
    out = x;
    cos_sin = nans(rows * rotary);
    for (int64_t head = 0; head < live * heads; ++head) {
      const std::vector<float> values = random_floats(static_cast<size_t>(size), random, 4.0f);
      std::copy_n(values.begin(), size, x.begin() + offset(head));
    }
    for (int64_t t = 0; t < live; ++t) {
      for (int64_t i = 0; i < rotary / 2; ++i) {
        const float angle = static_cast<float>(t * 7 + i);
        cos_sin[static_cast<size_t>(t * rotary + i)] = std::cos(angle);
        cos_sin[static_cast<size_t>(t * rotary + rotary / 2 + i)] = std::sin(angle);
      }
    }
  }

  int64_t row_stride() const { return heads * (size + 1) + 9; }
  int64_t offset(int64_t head) const { return head / heads * row_stride() + head % heads * (size + 1); }
  QkNormRopeArgs args() {
    QkNormRopeArgs args{.x = strided(x, {rows, heads, size}, {row_stride(), size + 1, 1}),
                        .out = strided(out, {rows, heads, size}, {row_stride(), size + 1, 1}),
                        .num_rows = &num_rows,
                        .flavour = flavour};
    if (with_norm) args.weight = view(weight, {size});
    if (rotary > 0) args.cos_sin = view(cos_sin, {rows, rotary});
    return args;
  }
  Status run(const KernelTable& table, int threads) {
    Stream stream(threads);
    return qk_norm_rope({table, stream}, args(), "test");
  }
};

TEST(QkNormRope, TurnsPairsOfHalvesByAQuarter) {
  for (const KernelTable* table : runnable_tables()) {
    std::vector<float> x = {1, 2, 3, 4, 5}, cos_sin = {0, 0, 1, 1}, out = nans(5);
    const LiveRows live(1);
    Stream stream(1);

    ASSERT_TRUE(qk_norm_rope({*table, stream},
                             {.x = view(x, {1, 1, 5}),
                              .cos_sin = view(cos_sin, {1, 4}),
                              .out = view(out, {1, 1, 5}),
                              .num_rows = &live},
                             "test")
                    .ok());

    EXPECT_EQ(out, (std::vector<float>{-3, -4, 1, 2, 5})) << table->name;
  }
}

TEST(QkNormRope, NormalisesEachHeadByItself) {
  for (const KernelTable* table : runnable_tables()) {
    std::vector<float> x = {3, 4, 0.5f, 0.5f}, weight = {1, 0}, out = nans(4);
    const LiveRows live(1);
    Stream stream(1);

    ASSERT_TRUE(qk_norm_rope({*table, stream},
                             {.x = view(x, {1, 2, 2}),
                              .weight = view(weight, {2}),
                              .out = view(out, {1, 2, 2}),
                              .num_rows = &live,
                              .epsilon = 0,
                              .flavour = NormFlavour::kZeroCentred},
                             "test")
                    .ok());

    EXPECT_FLOAT_EQ(out[0], 2 * 3 / std::sqrt(12.5f)) << table->name;
    EXPECT_FLOAT_EQ(out[1], 4 / std::sqrt(12.5f)) << table->name;
    EXPECT_FLOAT_EQ(out[2], 2) << table->name;
    EXPECT_FLOAT_EQ(out[3], 1) << table->name;
  }
}

// The norm errs as in rms_norm, by (D / 2 + 5) units; a turn adds two products and a sum, whose errors are
// relative to the two terms and not to their difference.
void expect_definition(const RopeProblem& problem, int64_t head) {
  const int64_t size = problem.size, half = problem.rotary / 2, t = head / problem.heads;
  const float* x = problem.x.data() + problem.offset(head);
  std::vector<double> normed(x, x + size);
  if (problem.with_norm) {
    double squares = 0;
    for (const double value : normed) squares += value * value;
    const double scale = 1 / std::sqrt(squares / static_cast<double>(size) + 1e-6);
    const double base = problem.flavour == NormFlavour::kPlain ? 0 : 1;
    for (int64_t i = 0; i < size; ++i) {
      const auto at = static_cast<size_t>(i);
      normed[at] *= scale * (base + double{problem.weight[at]});
    }
  }
  const double norm_units = problem.with_norm ? static_cast<double>(size) / 2 + 5 : 0;
  for (int64_t i = 0; i < size; ++i) {
    double expected = normed[static_cast<size_t>(i)], magnitude = std::abs(expected);
    if (i < 2 * half) {
      const int64_t pair = i < half ? i : i - half;
      const double cosine = problem.cos_sin[static_cast<size_t>(t * problem.rotary + pair)];
      const double sine = problem.cos_sin[static_cast<size_t>(t * problem.rotary + half + pair)];
      const double other = normed[static_cast<size_t>(i < half ? i + half : i - half)];
      magnitude = std::abs(expected * cosine) + std::abs(other * sine);
      expected = expected * cosine + (i < half ? -other * sine : other * sine);
    }
    ASSERT_NEAR(problem.out[static_cast<size_t>(problem.offset(head) + i)], expected,
                magnitude * (norm_units + 3) * kUnit)
        << "head " << head << " at " << i;
  }
}

TEST(QkNormRope, EqualsTheDefinitionAtAwkwardSizesAndZeroesPadRows) {
  struct Size {
    int64_t size, rotary;
  };
  for (const KernelTable* table : runnable_tables()) {
    for (const Size at :
         {Size{2, 2}, {6, 0}, {16, 4}, {64, 64}, {80, 32}, {128, 128}, {130, 66}, {256, 64}}) {
      for (const bool norm : {false, true}) {
        for (const int64_t live : {0, 1, 13}) {
          SCOPED_TRACE(
              concat(table->name, " D ", at.size, " rotary ", at.rotary, " norm ", norm, " T ", live));
          RopeProblem problem(live + 2, live, 3, at.size, at.rotary, norm);
          problem.flavour = live == 1 ? NormFlavour::kZeroCentred : NormFlavour::kPlain;
          ASSERT_TRUE(problem.run(*table, 5).ok());
          for (int64_t head = 0; head < live * 3; ++head) expect_definition(problem, head);
          for (int64_t head = 0; head < (live + 2) * 3; ++head) {
            const float* out = problem.out.data() + problem.offset(head);
            for (int64_t i = 0; head >= live * 3 && i < at.size; ++i) ASSERT_EQ(out[i], 0.0f);
            ASSERT_TRUE(std::isnan(out[at.size]));
          }
        }
      }
    }
  }
}

TEST(QkNormRope, GivesTheSameBitsInPlaceAloneAndOnAnyNumberOfThreads) {
  for (const KernelTable* table : runnable_tables()) {
    for (const bool norm : {false, true}) {
      RopeProblem first(31, 31, 2, 80, 40, norm), second = first;
      ASSERT_TRUE(first.run(*table, 1).ok());
      QkNormRopeArgs args = second.args();
      args.out = args.x;
      Stream stream(2);
      ASSERT_TRUE(qk_norm_rope({*table, stream}, args, "test").ok());
      EXPECT_TRUE(same_bits(first.out, second.x)) << table->name << " norm " << norm;
      RopeProblem alone = first;
      alone.out = nans(static_cast<int64_t>(alone.out.size()));
      QkNormRopeArgs one = alone.args();
      one.x = one.x.rows(17, 1);
      one.out = one.out.rows(17, 1);
      one.cos_sin = one.cos_sin.rows(17, 1);
      ASSERT_TRUE(qk_norm_rope({*table, stream}, one, "test").ok());
      const int64_t at = first.offset(17 * 2);
      EXPECT_TRUE(same_bits(alone.out.data() + at, first.out.data() + at, 80)) << table->name;
    }
  }
}

TEST(RopeAngles, AreExactToTheLastBitsUpToAMillionTokens) {
  for (const KernelTable* table : runnable_tables()) {
    std::vector<int32_t> positions = {0, 1, 4095, 131071, 999999, 12345};
    std::vector<float> inv_freq;
    for (int i = 0; i < 32; ++i) inv_freq.push_back(1 / std::pow(1e6f, static_cast<float>(i) / 32));
    std::vector<float> cos_sin = nans(6 * 64);
    const LiveRows live(5);
    Stream stream(2);

    ASSERT_TRUE(rope_angles({*table, stream},
                            {.positions = view(positions, {6}),
                             .inv_freq = view(inv_freq, {32}),
                             .cos_sin = view(cos_sin, {6, 64}),
                             .num_rows = &live,
                             .magnitude = 1.25f},
                            "test")
                    .ok());

    for (size_t t = 0; t < 6; ++t) {
      for (size_t i = 0; i < 32; ++i) {
        // The angle is the f32 product. The C library's functions err by at most 1 unit of the last place of
        // a number below 1, and the magnitude's product by half of one of a number below 1.25.
        const double angle = static_cast<float>(positions[t]) * inv_freq[i];
        const double cosine = t < 5 ? std::cos(angle) * 1.25 : 0, sine = t < 5 ? std::sin(angle) * 1.25 : 0;
        ASSERT_NEAR(cos_sin[t * 64 + i], cosine, 4 * kUnit) << positions[t] << " at " << i;
        ASSERT_NEAR(cos_sin[t * 64 + 32 + i], sine, 4 * kUnit) << positions[t] << " at " << i;
      }
    }
    EXPECT_EQ(cos_sin[0], 1.25f);
    EXPECT_EQ(cos_sin[32], 0.0f);
  }
}

TEST(RopeAngles, NameWhatDoesNotFit) {
  std::vector<int32_t> positions(2);
  std::vector<float> inv_freq(4), cos_sin(16);
  const LiveRows live(2);
  Stream stream(1);
  const KernelTable empty{.name = "empty"};
  const KernelTable& table = kernel_table(Isa::kReference);
  const auto refusal = [&](const RopeAnglesArgs& given, const KernelTable& from) {
    return rope_angles({from, stream}, given, "test").message();
  };
  const RopeAnglesArgs args{.positions = view(positions, {2}),
                            .inv_freq = view(inv_freq, {4}),
                            .cos_sin = view(cos_sin, {2, 8}),
                            .num_rows = &live};

  EXPECT_EQ(refusal(args, table), "");
  EXPECT_EQ(
      refusal(args, empty),
      "rope_angles: the kernel table empty has no such kernel; use the table of another instruction set");
  RopeAnglesArgs width = args;
  width.inv_freq = view(inv_freq, {3});
  EXPECT_EQ(refusal(width, table),
            "rope_angles: cos_sin has shape [2, 8]; expected 2R = 6 columns for inv_freq [3]");
  RopeAnglesArgs dtype = args;
  dtype.positions.dtype = DType::kI64;
  EXPECT_EQ(refusal(dtype, table), "rope_angles: positions is i64; expected i32");
  RopeAnglesArgs rows = args;
  rows.positions = view(positions, {1});
  EXPECT_EQ(refusal(rows, table),
            "rope_angles: cos_sin has shape [2, 8]; expected T = 1 as in positions [1]");
}

TEST(QkNormRope, NamesWhatDoesNotFit) {
  RopeProblem problem(2, 2, 3, 8, 4, true);
  Stream stream(1);
  const KernelTable empty{.name = "empty"};
  const KernelTable& table = kernel_table(Isa::kReference);
  const auto refusal = [&](const QkNormRopeArgs& given, const KernelTable& from) {
    return qk_norm_rope({from, stream}, given, "test").message();
  };
  const QkNormRopeArgs args = problem.args();

  EXPECT_EQ(refusal(args, table), "");
  EXPECT_EQ(
      refusal(args, empty),
      "qk_norm_rope: the kernel table empty has no such kernel; use the table of another instruction set");
  QkNormRopeArgs odd = args;
  odd.cos_sin.shape.dims[1] = 3;
  EXPECT_EQ(
      refusal(odd, table),
      "qk_norm_rope: cos_sin has shape [2, 3]; expected an even number of columns, at most D = 8 as in x "
      "[2, 3, 8]");
  QkNormRopeArgs wide = args;
  wide.cos_sin.shape.dims[1] = 10;
  EXPECT_EQ(
      refusal(wide, table),
      "qk_norm_rope: cos_sin has shape [2, 10]; expected an even number of columns, at most D = 8 as in x "
      "[2, 3, 8]");
  QkNormRopeArgs weight = args;
  weight.weight.shape = {7};
  EXPECT_EQ(refusal(weight, table), "qk_norm_rope: weight has shape [7]; expected D = 8 as in x [2, 3, 8]");
  QkNormRopeArgs count = args;
  count.num_rows = nullptr;
  EXPECT_EQ(refusal(count, table), "qk_norm_rope: num_rows is null; expected the address of a count");
}

}  // namespace
}  // namespace lockstep
