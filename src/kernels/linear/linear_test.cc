#include "kernels/linear/linear.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/linear/matmul_case.h"

namespace lockstep {
namespace {

using namespace matmul_test;  // NOLINT

struct Format {
  DType dtype;
  MatmulInput input;
};

constexpr Format kFormats[] = {{DType::kF32, MatmulInput::kF32},
                               {DType::kF16, MatmulInput::kF32},
                               {DType::kBF16, MatmulInput::kF32},
                               {DType::kBF16, MatmulInput::kBF16}};

std::string describe(const Format& format) {
  return concat(format.dtype, format.input == MatmulInput::kBF16 ? " by bf16" : " by f32");
}

// One call: x [live, K] in T rows with NaN between and behind, out filled with NaN.
struct Call {
  Format format;
  const Weight& weight;
  std::vector<float> x;  // [live, K]
  int64_t pads = 0;

  int64_t k() const { return weight.packed.k; }
  int64_t n() const { return weight.packed.n; }
  int64_t live() const { return static_cast<int64_t>(x.size()) / k(); }

  // out, [T, N]. Fails the test where memory between the rows of out was touched.
  std::vector<float> run(Isa isa, Stream& stream) const {
    const int64_t rows = live() + pads, x_stride = k() + 3, out_stride = n() + 5;
    std::vector<float> inputs = poisoned(x, k(), rows, x_stride);
    std::vector<float> out = poisoned({}, n(), rows, out_stride);
    std::vector<uint8_t> workspace(static_cast<size_t>(linear_workspace_bytes(rows, k())), 0xFF);
    const LiveRows num_rows(live());
    const LinearArgs args{.x = strided(inputs, rows, k(), x_stride),
                          .weight = weight.packed,
                          .out = strided(out, rows, n(), out_stride),
                          .workspace = view(workspace, {static_cast<int64_t>(workspace.size())}),
                          .num_rows = &num_rows,
                          .input = format.input};
    const Status status = linear({table_of(isa), stream}, args, "test");
    EXPECT_TRUE(status.ok()) << status.message();
    std::vector<float> dense;
    for (int64_t t = 0; t < rows; ++t) {
      const auto begin = out.begin() + t * out_stride;
      dense.insert(dense.end(), begin, begin + n());
      for (int64_t c = n(); c < out_stride; ++c)
        EXPECT_TRUE(std::isnan(begin[c])) << "row " << t << " column " << c;
    }
    return dense;
  }
};

Weight make_weight(const Format& format, WeightLayout layout, int64_t n, int64_t k) {
  return Weight(random_values(n * k, 17), {.dtype = format.dtype, .layout = layout, .n = n, .k = k});
}

void expect_products(const Call& call, const std::vector<float>& out) {
  for (int64_t t = 0; t < call.live(); ++t) {
    for (int64_t n = 0; n < call.n(); ++n) {
      Dot dot;
      for (int64_t k = 0; k < call.k(); ++k) {
        dot.add(entering(call.x[static_cast<size_t>(t * call.k() + k)], call.format.input),
                call.weight.at(0, n, k));
      }
      ASSERT_NEAR(out[static_cast<size_t>(t * call.n() + n)], dot.sum, dot.tolerance())
          << "row " << t << " column " << n;
    }
  }
  for (size_t i = call.x.size() / static_cast<size_t>(call.k()) * static_cast<size_t>(call.n());
       i < out.size(); ++i) {
    ASSERT_EQ(out[i], 0.0f) << "pad element " << i;
  }
}

TEST(Linear, MultipliesByHand) {
  Stream stream(1);
  const Weight weight({1, 2, 3, 4, 5, 6}, {.layout = WeightLayout::kPanel32, .n = 2, .k = 3});
  for (const Isa isa : runnable()) {
    const Call call{
        .format = {DType::kBF16, MatmulInput::kBF16}, .weight = weight, .x = {1, 0, -1, 2, 1, 0.5f}};

    const std::vector<float> out = call.run(isa, stream);

    EXPECT_EQ(out, (std::vector<float>{-2, -2, 5.5f, 16})) << name_of(isa);
  }
}

TEST(Linear, AgreesWithSumsInDoubleAtAwkwardSizes) {
  Stream stream(2);
  const int64_t shapes[][2] = {{1, 1}, {5, 3}, {32, 2}, {31, 64}, {33, 65}, {100, 131}, {128, 257}};
  for (const Isa isa : runnable()) {
    for (const Format& format : kFormats) {
      for (const WeightLayout layout : {WeightLayout::kRowMajor, WeightLayout::kPanel32}) {
        for (const auto& [n, k] : shapes) {
          const Weight weight = make_weight(format, layout, n, k);
          for (const int64_t rows : {1, 2, 3, 4, 5, 7, 11, 12, 13, 31, 127}) {
            if (layout == WeightLayout::kRowMajor && rows > 13) continue;
            SCOPED_TRACE(concat(name_of(isa), " ", describe(format), " layout ", static_cast<int>(layout),
                                " T ", rows, " N ", n, " K ", k));
            const Call call{
                .format = format, .weight = weight, .x = random_values(rows * k, 5), .pads = rows % 4};
            expect_products(call, call.run(isa, stream));
            if (HasFatalFailure()) return;
          }
        }
      }
    }
  }
}

TEST(Linear, GivesARowTheSameBitsInEveryBatchAndOnAnyNumberOfThreads) {
  Stream stream(2), one(1), five(5);
  constexpr int64_t kRows = 512, kN = 72, kK = 161;
  for (const Isa isa : runnable()) {
    if (isa == Isa::kReference) continue;  // sums in double, row by row
    if (isa == Isa::kSm90) continue;       // a library multiplies many rows in bf16, in an order of its own
    for (const Format& format : kFormats) {
      const Weight weight = make_weight(format, WeightLayout::kPanel32, kN, kK);
      const std::vector<float> x = random_values(kRows * kK, 11);
      const std::vector<float> whole = Call{.format = format, .weight = weight, .x = x}.run(isa, stream);
      for (const int64_t batch : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 25, 100, 511}) {
        for (Stream* other : {&one, &five}) {
          for (int64_t begin = 0; begin < kRows; begin += begin == 0 ? batch : 97 * batch) {
            const int64_t end = std::min(begin + batch, kRows);
            const Call call{.format = format,
                            .weight = weight,
                            .x = {x.begin() + begin * kK, x.begin() + end * kK},
                            .pads = 3};
            const std::vector<float> part = call.run(isa, *other);
            ASSERT_TRUE(same_bits(part.data(), whole.data() + begin * kN, (end - begin) * kN))
                << name_of(isa) << " " << describe(format) << ": rows " << begin << " to " << end
                << " of 512, " << other->threads() << " threads";
          }
        }
      }
    }
  }
}

TEST(Linear, SumsOneChainOfFusedMultiplyAddsInAscendingOrder) {
  Stream stream(1);
  constexpr int64_t kRows = 14, kN = 40, kK = 77;
  for (const Isa isa : runnable()) {
    if (isa == Isa::kReference || isa == Isa::kSm90) continue;  // threads of the device share k
    for (const Format& format : kFormats) {
      if (isa == Isa::kAvx512Bf16 && format.input == MatmulInput::kBF16) continue;  // sums pairs
      const Weight weight = make_weight(format, WeightLayout::kPanel32, kN, kK);
      const Call call{.format = format, .weight = weight, .x = random_values(kRows * kK, 3)};
      const std::vector<float> out = call.run(isa, stream);
      for (int64_t t = 0; t < kRows; ++t) {
        for (int64_t n = 0; n < kN; ++n) {
          float sum = 0;
          for (int64_t k = 0; k < kK; ++k) {
            sum = std::fma(entering(call.x[static_cast<size_t>(t * kK + k)], format.input),
                           weight.at(0, n, k), sum);
          }
          ASSERT_EQ(out[static_cast<size_t>(t * kN + n)], sum)
              << name_of(isa) << " " << describe(format) << " row " << t << " column " << n;
        }
      }
    }
  }
}

TEST(Linear, KeepsANonFiniteRowToItself) {
  Stream stream(1);
  constexpr int64_t kRows = 5, kN = 33, kK = 35;
  for (const Isa isa : runnable()) {
    for (const Format& format : kFormats) {
      const Weight weight = make_weight(format, WeightLayout::kPanel32, kN, kK);
      const Call clean{.format = format, .weight = weight, .x = random_values(kRows * kK, 3)};
      Call dirty = clean;
      dirty.x[2 * kK + 7] = kNaN;
      dirty.x[3 * kK + 34] = std::numeric_limits<float>::infinity();

      const std::vector<float> expected = clean.run(isa, stream), out = dirty.run(isa, stream);

      EXPECT_TRUE(same_bits(out.data(), expected.data(), 2 * kN)) << name_of(isa);
      EXPECT_TRUE(same_bits(out.data() + 4 * kN, expected.data() + 4 * kN, kN)) << name_of(isa);
      for (int64_t n = 0; n < kN; ++n) {
        EXPECT_TRUE(std::isnan(out[static_cast<size_t>(2 * kN + n)])) << name_of(isa) << " column " << n;
        EXPECT_TRUE(std::isinf(out[static_cast<size_t>(3 * kN + n)])) << name_of(isa) << " column " << n;
      }
    }
  }
}

// A call that fits, for tests that spoil it.
struct Sound {
  Weight weight{random_values(8, 1),
                {.dtype = DType::kF32, .layout = WeightLayout::kPanel32, .n = 2, .k = 4}};
  std::vector<float> x = std::vector<float>(12), out = std::vector<float>(6, kNaN);
  std::vector<uint8_t> workspace = std::vector<uint8_t>(384);
  LiveRows live{3};
  LinearArgs args{.x = view(x, {3, 4}),
                  .weight = weight.packed,
                  .out = view(out, {3, 2}),
                  .workspace = view(workspace, {384}),
                  .num_rows = &live};

  std::string refusal(const KernelTable& table = kernel_table(Isa::kReference)) {
    Stream stream(1);
    return linear({table, stream}, args, "test").message();
  }
};

TEST(Linear, TakesACallThatFits) { EXPECT_EQ(Sound().refusal(), ""); }

TEST(Linear, ReturnsAtOnceWithoutRows) {
  Sound sound;
  sound.args.x = view(sound.x, {0, 4});
  sound.args.out = view(sound.out, {0, 2});
  EXPECT_EQ(sound.refusal(), "");
  EXPECT_TRUE(std::isnan(sound.out[0]));
}

TEST(Linear, NamesTheTensorThatDoesNotFit) {
  Sound sound;
  sound.args.out = view(sound.out, {2, 3});
  EXPECT_EQ(sound.refusal(), "linear: out has shape [2, 3]; expected T = 3 as in x [3, 4]");
  Sound inputs;
  inputs.args.weight.k = 5;
  EXPECT_EQ(inputs.refusal(), "linear: weight has shape [2, 5]; expected K = 4 as in x [3, 4]");
}

TEST(Linear, NamesTypesThatItCannotMultiply) {
  Sound sound;
  sound.args.x.dtype = DType::kBF16;
  EXPECT_EQ(sound.refusal(), "linear: x is bf16; expected f32");
  Sound weight;
  weight.args.weight.dtype = DType::kI8;
  EXPECT_EQ(weight.refusal(), "linear: weight is i8; expected f32, f16 or bf16");
  Sound input;
  input.args.input = MatmulInput::kBF16;
  EXPECT_EQ(
      input.refusal(),
      "linear: input is rounded to bf16 but weight is f32; expected a bf16 weight, or MatmulInput::kF32");
}

TEST(Linear, RefusesSeveralMatricesASmallWorkspaceAndAMissingCount) {
  Sound experts;
  experts.args.weight.experts = 4;
  EXPECT_EQ(experts.refusal(), "linear: weight holds 4 matrices; expected 1, or use moe_experts");
  Sound workspace;
  workspace.args.workspace = view(workspace.workspace, {383});
  EXPECT_EQ(workspace.refusal(), "linear: workspace has 383 bytes; expected at least 384");
  Sound count;
  count.args.num_rows = nullptr;
  EXPECT_EQ(count.refusal(), "linear: num_rows is null; expected the address of a count");
}

TEST(Linear, NamesATableWithoutIt) {
  Sound sound;
  EXPECT_EQ(sound.refusal({.name = "empty"}),
            "linear: the kernel table empty has no such kernel; use the table of another instruction set");
}

}  // namespace
}  // namespace lockstep
