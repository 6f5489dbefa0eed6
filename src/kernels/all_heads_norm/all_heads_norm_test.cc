#include "kernels/all_heads_norm/all_heads_norm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/common/test_support.h"

namespace lockstep {
namespace {

using namespace testing;  // NOLINT

constexpr double kUnit = 0x1p-24;  // relative error of one f32 rounding

// Heads are slices of a wider row, as in a fused projection; pad rows and gaps are NaN.
struct HeadsProblem {
  int64_t rows, live, heads, size, counted;
  LiveRows num_rows;
  NormFlavour flavour = NormFlavour::kPlain;
  std::vector<float> x, weight, squares, out;

  HeadsProblem(int64_t of_rows, int64_t of_live, int64_t of_heads, int64_t of_size, uint32_t seed = 5)
      : rows(of_rows), live(of_live), heads(of_heads), size(of_size), counted(of_heads), num_rows(of_live) {
    std::mt19937 random(seed);
    weight = random_floats(static_cast<size_t>(heads * size), random, 2.0f);
    x = nans(rows * row_stride());
    out = x;
    squares = nans(rows * 2);
    for (int64_t head = 0; head < live * heads; ++head) {
      const std::vector<float> values = random_floats(static_cast<size_t>(size), random, 4.0f);
      std::copy_n(values.begin(), size, x.begin() + offset(head / heads, head % heads));
    }
  }

  int64_t row_stride() const { return heads * (size + 1) + 9; }
  int64_t offset(int64_t t, int64_t h) const { return t * row_stride() + h * (size + 1); }
  float at(const std::vector<float>& of, int64_t t, int64_t h, int64_t i) const {
    return of[static_cast<size_t>(offset(t, h) + i)];
  }
  TensorView heads_of(std::vector<float>& values) {
    return strided(values, {rows, heads, size}, {row_stride(), size + 1, 1});
  }
  HeadSquaresArgs squares_args() {
    return {.x = heads_of(x),
            .out = strided(squares, {rows, 1}, {2, 1}),
            .num_rows = &num_rows,
            .counted_heads = counted};
  }
  AllHeadsNormArgs norm_args() {
    return {.x = heads_of(x),
            .weight = view(weight, {heads, size}),
            .squares = strided(squares, {rows, 1}, {2, 1}),
            .out = heads_of(out),
            .num_rows = &num_rows,
            .width = heads * size,
            .flavour = flavour};
  }
  Status run(const KernelTable& table, int threads) {
    Stream stream(threads);
    LS_TRY(head_squares({table, stream}, squares_args(), "test"));
    return all_heads_norm({table, stream}, norm_args(), "test");
  }
  double sum_of_squares(int64_t t) const {
    double sum = 0;
    for (int64_t h = 0; h < counted; ++h) {
      for (int64_t i = 0; i < size; ++i) sum += std::pow(static_cast<double>(at(x, t, h, i)), 2);
    }
    return sum;
  }
};

TEST(AllHeadsNorm, ScalesTheHeadsOfARowTogetherToUnitMeanSquare) {
  for (const KernelTable* table : runnable_tables()) {
    std::vector<float> x = {3, 4, 0, 0, 1, 1, 1, 1}, weight = {1, 1, 1, 2}, squares = nans(2), out = nans(8);
    const LiveRows live(2);
    Stream stream(1);
    const Launcher on{*table, stream};

    ASSERT_TRUE(
        head_squares(
            on,
            {.x = view(x, {2, 2, 2}), .out = view(squares, {2, 1}), .num_rows = &live, .counted_heads = 2},
            "test")
            .ok());
    ASSERT_TRUE(all_heads_norm(on,
                               {.x = view(x, {2, 2, 2}),
                                .weight = view(weight, {2, 2}),
                                .squares = view(squares, {2, 1}),
                                .out = view(out, {2, 2, 2}),
                                .num_rows = &live,
                                .width = 4,
                                .epsilon = 0},
                               "test")
                    .ok());

    EXPECT_EQ(squares, (std::vector<float>{25, 4})) << table->name;
    const std::vector<float> expected = {1.2f, 1.6f, 0, 0, 1, 1, 1, 2};  // row 0: rms = 2.5
    for (size_t i = 0; i < out.size(); ++i)
      EXPECT_FLOAT_EQ(out[i], expected[i]) << table->name << " at " << i;
  }
}

// A sum of n squares in f32 errs by less than n units, its root by half of that; seven more roundings follow.
void expect_definition(const HeadsProblem& after, int64_t t) {
  const double sum = after.sum_of_squares(t);
  const auto elements = static_cast<double>(after.heads * after.size);
  ASSERT_NEAR(after.squares[static_cast<size_t>(2 * t)], sum, sum * elements * kUnit) << "row " << t;
  const double scale = 1 / std::sqrt(sum / elements + 1e-6);
  for (int64_t h = 0; h < after.heads; ++h) {
    for (int64_t i = 0; i < after.size; ++i) {
      const double gain = (after.flavour == NormFlavour::kPlain ? 0.0 : 1.0) +
                          static_cast<double>(after.weight[static_cast<size_t>(h * after.size + i)]);
      const double expected = after.at(after.x, t, h, i) * scale * gain;
      ASSERT_NEAR(after.at(after.out, t, h, i), expected, std::abs(expected) * (elements / 2 + 7) * kUnit)
          << "row " << t << " head " << h << " at " << i;
    }
  }
}

TEST(AllHeadsNorm, EqualsTheDefinitionAtAwkwardSizesAndZeroesPadRows) {
  for (const KernelTable* table : runnable_tables()) {
    for (const auto& [heads, size] :
         {std::pair<int64_t, int64_t>{1, 1}, {3, 7}, {1, 64}, {5, 65}, {8, 130}}) {
      for (const int64_t live : {0, 1, 31}) {
        SCOPED_TRACE(concat(table->name, " rows ", live, " heads ", heads, " of ", size));
        HeadsProblem problem(live + 3, live, heads, size);
        problem.flavour = live == 1 ? NormFlavour::kZeroCentred : NormFlavour::kPlain;

        ASSERT_TRUE(problem.run(*table, 2).ok());

        for (int64_t t = 0; t < live; ++t) expect_definition(problem, t);
        for (int64_t t = 0; t < live + 3; ++t) {
          ASSERT_TRUE(t < live || problem.squares[static_cast<size_t>(2 * t)] == 0.0f);
          ASSERT_TRUE(std::isnan(problem.squares[static_cast<size_t>(2 * t + 1)])) << "between the rows";
          for (int64_t h = 0; h < heads; ++h) {
            for (int64_t i = 0; t >= live && i < size; ++i) ASSERT_EQ(problem.at(problem.out, t, h, i), 0.0f);
            ASSERT_TRUE(std::isnan(problem.at(problem.out, t, h, size))) << "between the heads";
          }
        }
      }
    }
  }
}

TEST(HeadSquares, LeaveOutHeadsThatAnotherRankCounts) {
  for (const KernelTable* table : runnable_tables()) {
    for (const int64_t counted : {0, 1, 3}) {
      HeadsProblem problem(4, 4, 4, 33);
      problem.counted = counted;
      Stream stream(2);
      ASSERT_TRUE(head_squares({*table, stream}, problem.squares_args(), "test").ok());
      for (int64_t t = 0; t < 4; ++t) {
        const double sum = problem.sum_of_squares(t);
        EXPECT_NEAR(problem.squares[static_cast<size_t>(2 * t)], sum, sum * 132 * kUnit)
            << table->name << " counts " << counted;
      }
    }
  }
}

// Two ranks with a half of the heads each, and four that hold two copies of each key head.
TEST(HeadSquares, OfRanksAddUpToThoseOfTheWholeRow) {
  for (const KernelTable* table : runnable_tables()) {
    HeadsProblem problem(3, 3, 4, 48);
    Stream stream(1);
    ASSERT_TRUE(head_squares({*table, stream}, problem.squares_args(), "test").ok());
    for (const int64_t ranks : {2, 4}) {
      std::vector<double> sums(3, 0.0);
      for (int64_t rank = 0; rank < ranks; ++rank) {
        HeadSquaresArgs args = problem.squares_args();
        std::vector<float> part = nans(3);
        args.x = args.x.rows(0, 3);
        args.x.data = static_cast<float*>(args.x.data) + rank * (4 / ranks) * 49;
        args.x.shape.dims[1] = args.counted_heads = 4 / ranks;
        args.out = view(part, {3, 1});
        ASSERT_TRUE(head_squares({*table, stream}, args, "test").ok());
        for (size_t t = 0; t < 3; ++t) sums[t] += static_cast<double>(part[t]);
      }
      for (size_t t = 0; t < 3; ++t)
        EXPECT_NEAR(problem.squares[2 * t], sums[t], sums[t] * 200 * kUnit) << table->name << " of " << ranks;
    }
  }
}

TEST(AllHeadsNorm, MayWriteWhereItReadsAndGivesARowTheSameBitsInEveryBatch) {
  for (const KernelTable* table : runnable_tables()) {
    HeadsProblem whole(37, 37, 6, 80);
    HeadsProblem again = whole;
    ASSERT_TRUE(whole.run(*table, 1).ok());
    Stream stream(5);
    ASSERT_TRUE(head_squares({*table, stream}, again.squares_args(), "test").ok());
    AllHeadsNormArgs args = again.norm_args();
    args.out = args.x;
    ASSERT_TRUE(all_heads_norm({*table, stream}, args, "test").ok());
    EXPECT_TRUE(same_bits(again.x, whole.out)) << table->name;
    for (const int64_t t : {0, 1, 17, 36}) {
      HeadsProblem alone(2, 1, 6, 80);
      alone.weight = whole.weight;
      std::copy_n(whole.x.begin() + whole.offset(t, 0), 6 * 81, alone.x.begin());
      ASSERT_TRUE(alone.run(*table, 1).ok());
      EXPECT_TRUE(same_bits(alone.squares.data(), whole.squares.data() + 2 * t, 1)) << table->name << t;
      EXPECT_TRUE(same_bits(alone.out.data(), whole.out.data() + whole.offset(t, 0), 6 * 81)) << table->name;
    }
  }
}

TEST(AllHeadsNorm, PassesNanOnInItsOwnRowAlone) {
  for (const KernelTable* table : runnable_tables()) {
    HeadsProblem problem(3, 3, 2, 20);
    problem.x[static_cast<size_t>(problem.offset(1, 1) + 5)] = kNan;
    ASSERT_TRUE(problem.run(*table, 1).ok());
    EXPECT_FALSE(std::isnan(problem.at(problem.out, 0, 0, 0))) << table->name;
    EXPECT_TRUE(std::isnan(problem.at(problem.out, 1, 0, 0))) << table->name << ": another head of the row";
    EXPECT_FALSE(std::isnan(problem.at(problem.out, 2, 0, 0))) << table->name;
  }
}

TEST(AllHeadsNorm, NamesWhatDoesNotFit) {
  HeadsProblem problem(2, 2, 3, 4);
  Stream stream(1);
  const KernelTable empty{.name = "empty"};
  const KernelTable& table = kernel_table(Isa::kReference);
  const auto sum = [&](const HeadSquaresArgs& given, const KernelTable& from) {
    return head_squares({from, stream}, given, "test").message();
  };
  const auto norm = [&](const AllHeadsNormArgs& given, const KernelTable& from) {
    return all_heads_norm({from, stream}, given, "test").message();
  };
  const std::string no_kernel =
      ": the kernel table empty has no such kernel; use the table of another instruction set";

  EXPECT_EQ(sum(problem.squares_args(), table), "");
  EXPECT_EQ(norm(problem.norm_args(), table), "");
  EXPECT_EQ(sum(problem.squares_args(), empty), "head_squares" + no_kernel);
  EXPECT_EQ(norm(problem.norm_args(), empty), "all_heads_norm" + no_kernel);
  HeadSquaresArgs many = problem.squares_args();
  many.counted_heads = 4;
  EXPECT_EQ(sum(many, table), "head_squares: counted_heads is 4; expected 0 to H = 3 as in x [2, 3, 4]");
  HeadSquaresArgs wide = problem.squares_args();
  wide.out.shape.dims[1] = 2;
  EXPECT_EQ(sum(wide, table),
            "head_squares: out has shape [2, 2]; expected one column: the row's sum of squares");
  AllHeadsNormArgs weight = problem.norm_args();
  weight.weight = view(problem.weight, {2, 4});
  EXPECT_EQ(norm(weight, table), "all_heads_norm: weight has shape [2, 4]; expected H = 3 as in x [2, 3, 4]");
  AllHeadsNormArgs none = problem.norm_args();
  none.width = 0;
  EXPECT_EQ(norm(none, table), "all_heads_norm: width is 0; expected how many elements the squares add up");
  AllHeadsNormArgs count = problem.norm_args();
  count.num_rows = nullptr;
  EXPECT_EQ(norm(count, table), "all_heads_norm: num_rows is null; expected the address of a count");
}

}  // namespace
}  // namespace lockstep
