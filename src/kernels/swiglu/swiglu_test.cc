#include "kernels/swiglu/swiglu.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/linear/matmul_case.h"

namespace lockstep {
namespace {

using namespace matmul_test;  // NOLINT

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// out, [T, F], of gate_up [live, 2F] followed by pad rows of NaN. Strides are wider than the rows.
std::vector<float> run(Isa isa, int threads, const std::vector<float>& gate_up, int64_t width, int64_t pads) {
  const int64_t live = static_cast<int64_t>(gate_up.size()) / (2 * width), rows = live + pads;
  std::vector<float> inputs = poisoned(gate_up, 2 * width, rows, 2 * width + 3);
  std::vector<float> out(static_cast<size_t>(rows * (width + 5)), kNaN);
  const LiveRows num_rows(live);
  Stream stream(threads);
  const Status status = swiglu({table_of(isa), stream},
                               {.gate_up = strided(inputs, rows, 2 * width, 2 * width + 3),
                                .out = strided(out, rows, width, width + 5),
                                .num_rows = &num_rows},
                               "test");
  EXPECT_TRUE(status.ok()) << status.message();
  std::vector<float> dense;
  for (int64_t t = 0; t < rows; ++t) {
    const auto begin = out.begin() + t * (width + 5);
    dense.insert(dense.end(), begin, begin + width);
    for (int64_t c = width; c < width + 5; ++c)
      EXPECT_TRUE(std::isnan(begin[c])) << "row " << t << " column " << c;
  }
  return dense;
}

TEST(Swiglu, GatesByHand) {
  for (const Isa isa : runnable()) {
    // silu: 0 at 0, x for large x, 0 for very negative x, half of log 3 * 3/4 at log 3.
    const std::vector<float> out =
        run(isa, 1, {0, 200, -200, std::log(3.0f), -kInfinity, 5, 3, 7, 4, kInfinity}, 5, 0);
    EXPECT_EQ(out[0], 0) << name_of(isa);
    EXPECT_FLOAT_EQ(out[1], 600) << name_of(isa);
    EXPECT_NEAR(out[2], 0, 1e-30) << name_of(isa);
    EXPECT_FLOAT_EQ(out[3], std::log(3.0f) * 3) << name_of(isa);
    EXPECT_TRUE(std::isnan(out[4])) << name_of(isa);
  }
}

TEST(Swiglu, AgreesWithDoubleAtAwkwardSizes) {
  for (const Isa isa : runnable()) {
    for (const int64_t width : {1, 15, 16, 17, 511, 512, 1100}) {
      for (const int64_t rows : {1, 31, 127}) {
        SCOPED_TRACE(concat(name_of(isa), " T ", rows, " F ", width));
        std::vector<float> gate_up = random_values(rows * 2 * width, 3);
        for (float& value : gate_up) value *= 20;
        const std::vector<float> out = run(isa, 2, gate_up, width, 3);
        for (int64_t i = 0; i < rows * width; ++i) {
          const auto row = static_cast<size_t>(i / width * 2 * width + i % width);
          const double gate = gate_up[row], up = gate_up[row + static_cast<size_t>(width)];
          const double expected = gate / (1 + std::exp(-gate)) * up;
          // exp errs by 4 units, the sum, the division and the product by one each.
          ASSERT_NEAR(out[static_cast<size_t>(i)], expected, std::abs(expected) * 8 * kUnit)
              << "element " << i;
        }
        for (auto i = static_cast<size_t>(rows * width); i < out.size(); ++i) ASSERT_EQ(out[i], 0.0f);
      }
    }
  }
}

TEST(Swiglu, GivesARowTheSameBitsInEveryBatchAndOnAnyNumberOfThreads) {
  constexpr int64_t kRows = 23, kWidth = 700;
  for (const Isa isa : runnable()) {
    const std::vector<float> gate_up = random_values(kRows * 2 * kWidth, 3);
    const std::vector<float> whole = run(isa, 1, gate_up, kWidth, 0);
    EXPECT_TRUE(same_bits(run(isa, 5, gate_up, kWidth, 0).data(), whole.data(), kRows * kWidth))
        << name_of(isa);
    for (int64_t t = 0; t < kRows; ++t) {
      const std::vector<float> row(gate_up.begin() + t * 2 * kWidth, gate_up.begin() + (t + 1) * 2 * kWidth);
      EXPECT_TRUE(same_bits(run(isa, 2, row, kWidth, 1).data(), whole.data() + t * kWidth, kWidth))
          << name_of(isa);
    }
  }
}

TEST(Swiglu, NamesWhatDoesNotFit) {
  std::vector<float> gate_up(40), out(20);
  const LiveRows live(2);
  Stream stream(1);
  const KernelTable empty{.name = "empty"};
  SwigluArgs args{.gate_up = view(gate_up, {2, 8}), .out = view(out, {2, 4}), .num_rows = &live};
  const auto refusal = [&](const SwigluArgs& given, const KernelTable& table) {
    return swiglu({table, stream}, given, "test").message();
  };
  const KernelTable& table = kernel_table(Isa::kReference);

  EXPECT_EQ(refusal(args, table), "");
  EXPECT_EQ(refusal(args, empty),
            "swiglu: the kernel table empty has no such kernel; use the table of another instruction set");
  SwigluArgs rows = args;
  rows.out = view(out, {3, 4});
  EXPECT_EQ(refusal(rows, table), "swiglu: out has shape [3, 4]; expected T = 2 as in gate_up [2, 8]");
  SwigluArgs width = args;
  width.out = view(out, {2, 5});
  EXPECT_EQ(refusal(width, table),
            "swiglu: gate_up has shape [2, 8]; expected [2, 10], twice the width of out [2, 5]");
  SwigluArgs dtype = args;
  dtype.gate_up.dtype = DType::kBF16;
  EXPECT_EQ(refusal(dtype, table), "swiglu: gate_up is bf16; expected f32");
  SwigluArgs count = args;
  count.num_rows = nullptr;
  EXPECT_EQ(refusal(count, table), "swiglu: num_rows is null; expected the address of a count");
}

}  // namespace
}  // namespace lockstep
