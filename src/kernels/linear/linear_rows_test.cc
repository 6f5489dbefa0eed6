// A few rows whose operands are whole vectors, as a decode step has them.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/common/test_support.h"
#include "kernels/linear/linear.h"

namespace lockstep {
namespace {

using namespace testing;  // NOLINT

struct Sizes {
  int64_t rows, n, k;
};

// The product on a table, of random values that begin where vectors do; pads are poison.
struct FewRows {
  explicit FewRows(const Sizes& of) : sizes(of) {
    std::mt19937 random(7);
    x = random_floats(static_cast<size_t>(sizes.rows * sizes.k), random);
    for (const float value : random_floats(static_cast<size_t>(sizes.n * sizes.k), random))
      weight.push_back(static_cast<BFloat16>(value));
  }

  std::vector<float> run(const KernelTable& table, int64_t live_rows) {
    std::vector<float> out = nans(sizes.rows * sizes.n);
    std::vector<uint8_t> workspace(static_cast<size_t>(linear_workspace_bytes(sizes.rows, sizes.k)), 0xFF);
    std::fill(x.begin() + live_rows * sizes.k, x.end(), kNan);
    const LiveRows live(static_cast<int32_t>(live_rows));
    Stream stream(1);
    const LinearArgs args{.x = view(x, {sizes.rows, sizes.k}),
                          .weight = {.data = weight.data(),
                                     .dtype = DType::kBF16,
                                     .layout = WeightLayout::kRowMajor,
                                     .n = sizes.n,
                                     .k = sizes.k,
                                     .expert_stride = sizes.n * sizes.k},
                          .out = view(out, {sizes.rows, sizes.n}),
                          .workspace = view(workspace, {static_cast<int64_t>(workspace.size())}),
                          .num_rows = &live,
                          .input = MatmulInput::kBF16};
    EXPECT_EQ(linear({table, stream}, args, "test").message(), "");
    return out;
  }

  Sizes sizes;
  std::vector<float> x;
  std::vector<BFloat16> weight;
};

// Products of two bf16 numbers are exact; each of K sums errs by 2^-23 of sums that stay below sqrt(K) or so.
TEST(LinearOfFewRows, AgreesWithSumsInDouble) {
  for (const Sizes& sizes :
       {Sizes{1, 96, 4096}, {2, 33, 72}, {5, 64, 1000}, {7, 40, 8}, {8, 100, 520}, {8, 32, 2048}}) {
    FewRows rows(sizes);
    const int64_t live = sizes.rows > 2 ? sizes.rows - 1 : sizes.rows;
    const std::vector<float> expected = rows.run(kernel_table(Isa::kReference), live);
    const auto k = static_cast<float>(sizes.k);
    for (const KernelTable* table : runnable_tables()) {
      const std::vector<float> out = rows.run(*table, live);
      for (size_t i = 0; i < out.size(); ++i) {
        const float bound = i < static_cast<size_t>(live * sizes.n) ? 4 * k * 0x1p-23f : 0.0f;
        ASSERT_NEAR(out[i], expected[i], bound) << table->name << " K " << sizes.k << " element " << i;
      }
    }
  }
}

TEST(LinearOfFewRows, GivesARowTheSameBitsBesideTwoAndBesideEight) {
  FewRows eight({8, 64, 1000});
  const KernelTable& table = *runnable_tables().back();
  const std::vector<float> all = eight.run(table, 8);
  for (const int64_t count : {2, 5}) {
    FewRows some({count, 64, 1000});
    some.weight = eight.weight;
    std::copy(eight.x.begin(), eight.x.begin() + count * 1000, some.x.begin());
    EXPECT_TRUE(same_bits(some.run(table, count).data(), all.data(), count * 64)) << count << " rows";
  }
}

}  // namespace
}  // namespace lockstep
