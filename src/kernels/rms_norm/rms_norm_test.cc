#include "kernels/rms_norm/rms_norm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/common/test_support.h"

namespace lockstep {
namespace {

using namespace testing;  // NOLINT

constexpr double kUnit = 0x1p-24;  // relative error of one f32 rounding

// Rows lie in wider buffers; pad rows of x and residual, and everything between rows, are NaN.
struct NormProblem {
  int64_t rows, width;
  LiveRows num_rows;
  bool has_residual;
  float epsilon = 1e-6f;
  NormFlavour flavour = NormFlavour::kPlain;
  std::vector<float> x, weight, residual, out;

  NormProblem(int64_t of_rows, int64_t live, int64_t of_width, bool with_residual, uint32_t seed = 1)
      : rows(of_rows), width(of_width), num_rows(live), has_residual(with_residual) {
    std::mt19937 random(seed);
    weight = random_floats(static_cast<size_t>(width), random, 2.0f);
    x = nans(rows * (width + 3));
    residual = nans(rows * (width + 1));
    out = nans(rows * (width + 2));
    for (int64_t t = 0; t < live; ++t) {
      const std::vector<float> values = random_floats(static_cast<size_t>(2 * width), random, 4.0f);
      std::copy_n(values.begin(), width, x.begin() + t * (width + 3));
      std::copy_n(values.begin() + width, width, residual.begin() + t * (width + 1));
    }
  }

  RmsNormArgs args() {
    RmsNormArgs args{.x = strided(x, {rows, width}, {width + 3, 1}),
                     .weight = view(weight, {width}),
                     .out = strided(out, {rows, width}, {width + 2, 1}),
                     .num_rows = &num_rows,
                     .epsilon = epsilon,
                     .flavour = flavour};
    if (has_residual) args.residual = strided(residual, {rows, width}, {width + 1, 1});
    return args;
  }
  Status run(const KernelTable& table, int threads) {
    Stream stream(threads);
    return rms_norm({table, stream}, args(), "test");
  }
};

TEST(RmsNorm, ScalesEachRowToUnitMeanSquare) {
  for (const KernelTable* table : runnable_tables()) {
    std::vector<float> x = {3, 4, 0, 0, 1, 1, 1, 1}, weight = {1, 1, 1, 2}, out = nans(8);
    const LiveRows live(2);
    Stream stream(1);

    ASSERT_TRUE(rms_norm({*table, stream},
                         {.x = view(x, {2, 4}),
                          .weight = view(weight, {4}),
                          .out = view(out, {2, 4}),
                          .num_rows = &live,
                          .epsilon = 0},
                         "test")
                    .ok());

    const std::vector<float> expected = {1.2f, 1.6f, 0, 0, 1, 1, 1, 2};  // row 0: rms = 2.5
    for (size_t i = 0; i < out.size(); ++i)
      EXPECT_FLOAT_EQ(out[i], expected[i]) << table->name << " at " << i;
  }
}

TEST(RmsNorm, AddsToTheResidualFirstAndCountsWeightsFromOneWhenZeroCentred) {
  for (const KernelTable* table : runnable_tables()) {
    std::vector<float> x = {1, 3}, residual = {2, 1}, weight = {0, 1}, out = nans(2);
    const LiveRows live(1);
    Stream stream(1);

    ASSERT_TRUE(rms_norm({*table, stream},
                         {.x = view(x, {1, 2}),
                          .weight = view(weight, {2}),
                          .residual = view(residual, {1, 2}),
                          .out = view(out, {1, 2}),
                          .num_rows = &live,
                          .epsilon = 0,
                          .flavour = NormFlavour::kZeroCentred},
                         "test")
                    .ok());

    EXPECT_EQ(residual, (std::vector<float>{3, 4})) << table->name;
    EXPECT_FLOAT_EQ(out[0], 3 / std::sqrt(12.5f)) << table->name;
    EXPECT_FLOAT_EQ(out[1], 8 / std::sqrt(12.5f)) << table->name;
  }
}

TEST(RmsNorm, ScalesWhatItAddsAndWhatItGives) {
  for (const KernelTable* table : runnable_tables()) {
    std::vector<float> x = {4, 12}, residual = {2, 1}, weight = {1, 2}, out = nans(2);
    const LiveRows live(1);
    Stream stream(1);

    ASSERT_TRUE(rms_norm({*table, stream},
                         {.x = view(x, {1, 2}),
                          .weight = view(weight, {2}),
                          .residual = view(residual, {1, 2}),
                          .out = view(out, {1, 2}),
                          .num_rows = &live,
                          .epsilon = 0,
                          .x_scale = 0.25f,
                          .out_scale = 0.5f},
                         "test")
                    .ok());

    EXPECT_EQ(residual, (std::vector<float>{3, 4})) << table->name;
    EXPECT_FLOAT_EQ(out[0], 1.5f / std::sqrt(12.5f)) << table->name;
    EXPECT_FLOAT_EQ(out[1], 4 / std::sqrt(12.5f)) << table->name;
  }
}

// A sum of n squares in f32 errs by less than n units, its root by half of that; five more roundings follow.
void expect_definition(const NormProblem& given, const NormProblem& after, int64_t t) {
  const int64_t width = given.width;
  std::vector<double> sum(static_cast<size_t>(width));
  double squares = 0;
  for (int64_t i = 0; i < width; ++i) {
    float s = given.x[static_cast<size_t>(t * (width + 3) + i)];
    if (given.has_residual) {
      s += given.residual[static_cast<size_t>(t * (width + 1) + i)];
      ASSERT_EQ(after.residual[static_cast<size_t>(t * (width + 1) + i)], s) << "row " << t << " at " << i;
    }
    sum[static_cast<size_t>(i)] = s;
    squares += double{s} * double{s};
  }
  const double scale = 1 / std::sqrt(squares / static_cast<double>(width) + double{given.epsilon});
  for (int64_t i = 0; i < width; ++i) {
    const double gain = (given.flavour == NormFlavour::kPlain ? 0.0 : 1.0) +
                        static_cast<double>(given.weight[static_cast<size_t>(i)]);
    const double expected = sum[static_cast<size_t>(i)] * scale * gain;
    ASSERT_NEAR(after.out[static_cast<size_t>(t * (width + 2) + i)], expected,
                std::abs(expected) * (static_cast<double>(width) / 2 + 5) * kUnit)
        << "row " << t << " at " << i;
  }
}

TEST(RmsNorm, EqualsTheDefinitionAtAwkwardSizesAndZeroesPadRows) {
  for (const KernelTable* table : runnable_tables()) {
    for (const int64_t width : {1, 7, 16, 17, 63, 64, 65, 127, 130, 1000}) {
      for (const int64_t live : {0, 1, 31}) {
        for (const bool with_residual : {false, true}) {
          SCOPED_TRACE(concat(table->name, " rows ", live, " width ", width, " residual ", with_residual));
          NormProblem problem(live + 3, live, width, with_residual);
          problem.flavour = live == 1 ? NormFlavour::kZeroCentred : NormFlavour::kPlain;
          const NormProblem given = problem;
          ASSERT_TRUE(problem.run(*table, 2).ok());
          for (int64_t t = 0; t < live; ++t) expect_definition(given, problem, t);
          for (int64_t t = 0; t < live + 3; ++t) {
            for (int64_t i = 0; t >= live && i < width; ++i) {
              ASSERT_EQ(problem.out[static_cast<size_t>(t * (width + 2) + i)], 0.0f);
              const float sum = problem.residual[static_cast<size_t>(t * (width + 1) + i)];
              ASSERT_TRUE(with_residual ? sum == 0.0f : std::isnan(sum));
            }
            ASSERT_TRUE(std::isnan(problem.out[static_cast<size_t>(t * (width + 2) + width)]));
            ASSERT_TRUE(std::isnan(problem.residual[static_cast<size_t>(t * (width + 1) + width)]));
          }
        }
      }
    }
  }
}

TEST(RmsNorm, MayWriteWhereItReads) {
  for (const KernelTable* table : runnable_tables()) {
    NormProblem problem(5, 5, 130, false);
    ASSERT_TRUE(problem.run(*table, 1).ok());
    RmsNormArgs args = problem.args();
    args.out = args.x;
    Stream stream(2);
    ASSERT_TRUE(rms_norm({*table, stream}, args, "test").ok());
    for (int64_t t = 0; t < 5; ++t) {
      EXPECT_TRUE(same_bits(problem.x.data() + t * 133, problem.out.data() + t * 132, 130))
          << table->name << " row " << t;
    }
  }
}

TEST(RmsNorm, GivesARowTheSameBitsInEveryBatchAndOnAnyNumberOfThreads) {
  for (const KernelTable* table : runnable_tables()) {
    NormProblem whole(127, 127, 200, true);
    const NormProblem given = whole;
    ASSERT_TRUE(whole.run(*table, 1).ok());
    for (const int threads : {2, 5}) {
      NormProblem again = given;
      ASSERT_TRUE(again.run(*table, threads).ok());
      EXPECT_TRUE(same_bits(again.out, whole.out)) << table->name << ", " << threads << " threads";
    }
    for (const int64_t t : {0, 1, 64, 126}) {
      NormProblem alone(2, 1, 200, true);
      alone.weight = given.weight;
      std::copy_n(given.x.begin() + t * 203, 200, alone.x.begin());
      std::copy_n(given.residual.begin() + t * 201, 200, alone.residual.begin());
      ASSERT_TRUE(alone.run(*table, 1).ok());
      EXPECT_TRUE(same_bits(alone.out.data(), whole.out.data() + t * 202, 200))
          << table->name << " row " << t;
    }
  }
}

TEST(RmsNorm, PassesNanOnInItsOwnRowAlone) {
  for (const KernelTable* table : runnable_tables()) {
    NormProblem problem(3, 3, 70, false);
    problem.x[73 + 5] = kNan;
    ASSERT_TRUE(problem.run(*table, 1).ok());
    EXPECT_FALSE(std::isnan(problem.out[0])) << table->name;
    EXPECT_TRUE(std::isnan(problem.out[72])) << table->name;
    EXPECT_FALSE(std::isnan(problem.out[2 * 72])) << table->name;
  }
}

TEST(RmsNorm, NamesWhatDoesNotFit) {
  NormProblem problem(2, 2, 4, true);
  Stream stream(1);
  const KernelTable empty{.name = "empty"};
  const auto refusal = [&](const RmsNormArgs& given, const KernelTable& table) {
    return rms_norm({table, stream}, given, "test").message();
  };
  const KernelTable& table = kernel_table(Isa::kReference);
  const RmsNormArgs args = problem.args();

  EXPECT_EQ(refusal(args, table), "");
  EXPECT_EQ(refusal(args, empty),
            "rms_norm: the kernel table empty has no such kernel; use the table of another instruction set");
  RmsNormArgs weight = args;
  weight.weight.shape = {3};
  EXPECT_EQ(refusal(weight, table), "rms_norm: weight has shape [3]; expected E = 4 as in x [2, 4]");
  RmsNormArgs dtype = args;
  dtype.residual.dtype = DType::kF16;
  EXPECT_EQ(refusal(dtype, table), "rms_norm: residual is f16; expected f32");
  RmsNormArgs stride = args;
  stride.x.strides[1] = 2;
  EXPECT_EQ(refusal(stride, table), "rms_norm: x [2, 4] has an innermost stride of 2; expected 1");
  RmsNormArgs memory = args;
  memory.weight.data = nullptr;
  EXPECT_EQ(refusal(memory, table), "rms_norm: weight has no memory; it is required");
  RmsNormArgs count = args;
  count.num_rows = nullptr;
  EXPECT_EQ(refusal(count, table), "rms_norm: num_rows is null; expected the address of a count");
}

}  // namespace
}  // namespace lockstep
