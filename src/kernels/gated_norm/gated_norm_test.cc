#include "kernels/gated_norm/gated_norm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/common/sequence_batch.h"

namespace lockstep {
namespace {

using namespace testing;  // NOLINT

// z lies in the rows of a wider buffer; pad rows of x and z are NaN.
struct NormProblem {
  int64_t rows, heads, size;
  LiveRows num_rows;
  std::vector<float> x, z, weight, out;

  NormProblem(int64_t of_rows, int64_t live, int64_t of_heads, int64_t of_size, uint32_t seed)
      : rows(of_rows), heads(of_heads), size(of_size), num_rows(live) {
    std::mt19937 random(seed);
    x = random_floats(static_cast<size_t>(rows * heads * size), random, 4.0f);
    z = random_floats(static_cast<size_t>(rows * stride()), random, 4.0f);
    weight = random_floats(static_cast<size_t>(size), random);
    out.assign(x.size(), kNan);
    std::fill(x.begin() + live * heads * size, x.end(), kNan);
    std::fill(z.begin() + live * stride(), z.end(), kNan);
  }

  int64_t stride() const { return heads * size + 3; }
  GatedNormArgs args() {
    TensorView gate = dense_view(z.data(), DType::kF32, {rows, heads, size});
    gate.strides[0] = stride();
    return {.x = view(x, {rows, heads, size}),
            .z = gate,
            .weight = view(weight, {size}),
            .out = view(out, {rows, heads, size}),
            .num_rows = &num_rows};
  }
  Status run(const KernelTable& table, int threads = 1) {
    Stream stream(threads);
    return gated_norm({table, stream}, args(), "test");
  }
};

TEST(GatedNorm, NormalisesThenWeighsThenGates) {
  for (const KernelTable* table : runnable_tables()) {
    NormProblem problem(1, 1, 1, 2, 1);
    problem.x = {3, 4};  // root mean square 5 / sqrt 2
    problem.z[0] = 50;   // SiLU(50) = 50
    problem.z[1] = 0;
    problem.weight = {2, 2};
    ASSERT_TRUE(problem.run(*table).ok());
    EXPECT_FLOAT_EQ(problem.out[0], 60 * std::sqrt(2.0f)) << table->name;
    EXPECT_EQ(problem.out[1], 0.0f) << table->name;
  }
}

TEST(GatedNorm, EqualsTheDefinitionAndZeroesPadRows) {
  for (const int64_t size : {1, 5, 16, 31, 128, 130}) {
    for (const KernelTable* table : runnable_tables()) {
      NormProblem problem(7, 5, 3, size, 2);
      ASSERT_TRUE(problem.run(*table, 2).ok());
      for (int64_t i = 0; i < 7 * 3; ++i) {
        double squares = 0;
        const float* x = problem.x.data() + i * size;
        for (int64_t d = 0; d < size; ++d) squares += double{x[d]} * double{x[d]};
        const double scale = 1 / std::sqrt(squares / static_cast<double>(size) + 1e-6);
        for (int64_t d = 0; d < size; ++d) {
          const float actual = problem.out[static_cast<size_t>(i * size + d)];
          if (i >= 5 * 3) {
            ASSERT_EQ(actual, 0.0f) << table->name << " pad row " << i / 3;
            continue;
          }
          const double z = problem.z[static_cast<size_t>(i / 3 * problem.stride() + i % 3 * size + d)];
          const double expected =
              x[d] * scale * problem.weight[static_cast<size_t>(d)] * z / (1 + std::exp(-z));
          // The sum of squares errs by eps sqrt(size) at most, about ten more roundings follow.
          const double tolerance =
              0x1p-24 * (std::sqrt(static_cast<double>(size)) + 10) * std::abs(expected) + 1e-30;
          ASSERT_NEAR(actual, expected, tolerance) << table->name << " size " << size << " head " << i;
        }
      }
    }
  }
}

TEST(GatedNorm, MayWriteOverItsInputOnAnyNumberOfThreads) {
  for (const KernelTable* table : runnable_tables()) {
    NormProblem apart(31, 30, 4, 48, 3);
    ASSERT_TRUE(apart.run(*table).ok());
    for (const int threads : {1, 2, 5}) {
      NormProblem within(31, 30, 4, 48, 3);
      GatedNormArgs args = within.args();
      args.out = args.x;
      Stream stream(threads);
      ASSERT_TRUE(gated_norm({*table, stream}, args, "test").ok());
      EXPECT_EQ(within.x, apart.out) << table->name << " on " << threads << " threads";
    }
  }
}

TEST(GatedNorm, NamesWhatDoesNotFit) {
  NormProblem problem(7, 7, 2, 16, 4);
  Stream stream(1);
  const Launcher on{kernel_table(Isa::kReference), stream};
  GatedNormArgs args = problem.args();
  args.weight.shape.dims[0] = 8;
  EXPECT_EQ(gated_norm(on, args, "test").message(),
            "gated_norm: weight has shape [8]; expected D = 16 as in x [7, 2, 16]");
  args = problem.args();
  args.z.dtype = DType::kBF16;
  EXPECT_EQ(gated_norm(on, args, "test").message(), "gated_norm: z is bf16; expected f32");
  args = problem.args();
  args.num_rows = nullptr;
  EXPECT_EQ(gated_norm(on, args, "test").message(),
            "gated_norm: num_rows is null; expected the address of a count");
  const KernelTable empty{.name = "empty"};
  EXPECT_EQ(
      gated_norm({empty, stream}, problem.args(), "test").message(),
      "gated_norm: the kernel table empty has no such kernel; use the table of another instruction set");
  NormProblem nothing(0, 0, 2, 16, 5);
  EXPECT_TRUE(gated_norm({empty, stream}, nothing.args(), "test").ok());
}

}  // namespace
}  // namespace lockstep
