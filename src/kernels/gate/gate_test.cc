#include "kernels/gate/gate.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/common/test_support.h"

namespace lockstep {
namespace {

using namespace testing;  // NOLINT

constexpr double kUnit = 0x1p-24;  // relative error of one f32 rounding

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// [T, H, D] in wider buffers, head by head; pad rows and gaps are NaN.
struct GateProblem {
  int64_t rows, heads, size;
  LiveRows num_rows;
  std::vector<float> x, gate, out;

  GateProblem(int64_t of_rows, int64_t live, int64_t of_heads, int64_t of_size)
      : rows(of_rows), heads(of_heads), size(of_size), num_rows(live) {
    std::mt19937 random(1);
    x = nans(rows * row_stride());
    gate = x;
    out = x;
    for (int64_t head = 0; head < live * heads; ++head) {
      const std::vector<float> values = random_floats(static_cast<size_t>(2 * size), random, 30.0f);
      std::copy_n(values.begin(), size, x.begin() + offset(head));
      std::copy_n(values.begin() + size, size, gate.begin() + offset(head));
    }
  }

  int64_t row_stride() const { return heads * (size + 2) + 5; }
  int64_t offset(int64_t head) const { return head / heads * row_stride() + head % heads * (size + 2); }
  TensorView of(std::vector<float>& values) const {
    return strided(values, {rows, heads, size}, {row_stride(), size + 2, 1});
  }
  SigmoidGateArgs args() { return {.x = of(x), .gate = of(gate), .out = of(out), .num_rows = &num_rows}; }
  Status run(const KernelTable& table, int threads) {
    Stream stream(threads);
    return sigmoid_gate({table, stream}, args(), "test");
  }
};

TEST(SigmoidGate, OpensHalfAtZeroAndShutsOrOpensFarOut) {
  for (const KernelTable* table : runnable_tables()) {
    const float infinity = std::numeric_limits<float>::infinity();
    std::vector<float> x = {6, 6, 6, 6, 6}, gate = {0, 200, -200, infinity, -infinity}, out = nans(5);
    const LiveRows live(1);
    Stream stream(1);
    ASSERT_TRUE(sigmoid_gate({*table, stream},
                             {.x = view(x, {1, 1, 5}),
                              .gate = view(gate, {1, 1, 5}),
                              .out = view(out, {1, 1, 5}),
                              .num_rows = &live},
                             "test")
                    .ok());
    EXPECT_EQ(out, (std::vector<float>{3, 6, 0, 6, 0})) << table->name;
  }
}

TEST(SigmoidGate, EqualsTheDefinitionAtAwkwardSizesAndZeroesPadRows) {
  for (const KernelTable* table : runnable_tables()) {
    for (const int64_t size : {1, 15, 16, 17, 64, 130}) {
      for (const int64_t live : {0, 1, 31}) {
        SCOPED_TRACE(concat(table->name, " rows ", live, " size ", size));
        GateProblem problem(live + 2, live, 3, size);
        ASSERT_TRUE(problem.run(*table, 5).ok());
        for (int64_t head = 0; head < (live + 2) * 3; ++head) {
          for (int64_t i = 0; i < size; ++i) {
            const auto at = static_cast<size_t>(problem.offset(head) + i);
            const double expected =
                head < live * 3 ? double{problem.x[at]} * sigmoid(double{problem.gate[at]}) : 0.0;
            // The exponential errs by 2 units, sum, division and product by one each.
            ASSERT_NEAR(problem.out[at], expected, std::abs(expected) * 5 * kUnit) << head << " at " << i;
          }
          ASSERT_TRUE(std::isnan(problem.out[static_cast<size_t>(problem.offset(head) + size)]));
        }
      }
    }
  }
}

TEST(SigmoidGate, GivesTheSameBitsInPlaceAndOnAnyNumberOfThreads) {
  for (const KernelTable* table : runnable_tables()) {
    GateProblem first(31, 31, 2, 70), second(31, 31, 2, 70);
    ASSERT_TRUE(first.run(*table, 1).ok());
    ASSERT_TRUE(second.run(*table, 2).ok());
    EXPECT_TRUE(same_bits(first.out, second.out)) << table->name;
    SigmoidGateArgs args = second.args();
    args.out = args.x;
    Stream stream(5);
    ASSERT_TRUE(sigmoid_gate({*table, stream}, args, "test").ok());
    EXPECT_TRUE(same_bits(first.out, second.x)) << table->name;
  }
}

TEST(SigmoidGate, NamesWhatDoesNotFit) {
  GateProblem problem(2, 2, 3, 4);
  Stream stream(1);
  const KernelTable empty{.name = "empty"};
  const KernelTable& table = kernel_table(Isa::kReference);
  const auto refusal = [&](const SigmoidGateArgs& given, const KernelTable& from) {
    return sigmoid_gate({from, stream}, given, "test").message();
  };
  const SigmoidGateArgs args = problem.args();

  EXPECT_EQ(refusal(args, table), "");
  EXPECT_EQ(
      refusal(args, empty),
      "sigmoid_gate: the kernel table empty has no such kernel; use the table of another instruction set");
  SigmoidGateArgs shape = args;
  shape.gate.shape.dims[1] = 1;
  EXPECT_EQ(refusal(shape, table),
            "sigmoid_gate: gate has shape [2, 1, 4]; expected H = 3 as in x [2, 3, 4]");
  SigmoidGateArgs dtype = args;
  dtype.x.dtype = DType::kBF16;
  EXPECT_EQ(refusal(dtype, table), "sigmoid_gate: x is bf16; expected f32");
  SigmoidGateArgs memory = args;
  memory.gate.data = nullptr;
  EXPECT_EQ(refusal(memory, table), "sigmoid_gate: gate has no memory; it is required");
}

struct AddProblem {
  int64_t rows, width;
  LiveRows num_rows;
  std::vector<float> y, gate, out;

  AddProblem(int64_t of_rows, int64_t live, int64_t of_width)
      : rows(of_rows), width(of_width), num_rows(live) {
    std::mt19937 random(2);
    y = random_floats(static_cast<size_t>(rows * width), random, 8.0f);
    gate = random_floats(static_cast<size_t>(rows), random, 8.0f);
    out = random_floats(static_cast<size_t>(rows * width), random, 8.0f);
    std::fill(y.begin() + live * width, y.end(), kNan);
    std::fill(gate.begin() + live, gate.end(), kNan);
    std::fill(out.begin() + live * width, out.end(), kNan);
  }
  GatedAddArgs args() {
    return {.y = view(y, {rows, width}),
            .gate = view(gate, {rows, 1}),
            .out = view(out, {rows, width}),
            .num_rows = &num_rows};
  }
};

TEST(GatedAdd, AddsTheGatedBranchAndZeroesPadRows) {
  for (const KernelTable* table : runnable_tables()) {
    for (const int64_t width : {1, 16, 31, 200}) {
      for (const bool gated : {true, false}) {
        for (const int threads : {1, 2, 5}) {
          SCOPED_TRACE(concat(table->name, " width ", width, " gated ", gated, " threads ", threads));
          AddProblem problem(9, 7, width);
          const AddProblem given = problem;
          GatedAddArgs args = problem.args();
          if (!gated) args.gate = {};
          Stream stream(threads);
          ASSERT_TRUE(gated_add({*table, stream}, args, "test").ok());
          for (int64_t i = 0; i < 9 * width; ++i) {
            const auto at = static_cast<size_t>(i);
            if (i >= 7 * width) {
              ASSERT_EQ(problem.out[at], 0.0f);
              continue;
            }
            const double open = gated ? sigmoid(double{given.gate[static_cast<size_t>(i / width)]}) : 1.0;
            const double added = open * double{given.y[at]}, expected = double{given.out[at]} + added;
            // As above for the product, one more rounding for the sum.
            ASSERT_NEAR(problem.out[at], expected, (std::abs(added) * 5 + std::abs(expected)) * kUnit);
          }
        }
      }
    }
  }
}

TEST(GatedAdd, NamesWhatDoesNotFit) {
  AddProblem problem(2, 2, 4);
  Stream stream(1);
  const KernelTable empty{.name = "empty"};
  const KernelTable& table = kernel_table(Isa::kReference);
  const auto refusal = [&](const GatedAddArgs& given, const KernelTable& from) {
    return gated_add({from, stream}, given, "test").message();
  };
  const GatedAddArgs args = problem.args();

  EXPECT_EQ(refusal(args, table), "");
  EXPECT_EQ(refusal(args, empty),
            "gated_add: the kernel table empty has no such kernel; use the table of another instruction set");
  GatedAddArgs gate = args;
  gate.gate = view(problem.y, {2, 2});
  EXPECT_EQ(refusal(gate, table), "gated_add: gate has shape [2, 2]; expected one column");
  GatedAddArgs rows = args;
  rows.y.shape.dims[0] = 1;
  EXPECT_EQ(refusal(rows, table), "gated_add: gate has shape [2, 1]; expected T = 1 as in y [1, 4]");
  GatedAddArgs count = args;
  count.num_rows = nullptr;
  EXPECT_EQ(refusal(count, table), "gated_add: num_rows is null; expected the address of a count");
}

}  // namespace
}  // namespace lockstep
