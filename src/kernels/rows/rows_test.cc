#include "kernels/rows/rows.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/common/sequence_batch.h"

namespace lockstep {
namespace {

using namespace testing;  // NOLINT

TEST(ResolveTokens, TakesLiteralsOrSampledTokens) {
  for (const KernelTable* table : runnable_tables()) {
    for (const int threads : {1, 2, 5}) {
      std::vector<int32_t> literals = {10, 11, 12, 13, 14, 99, 99};
      std::vector<int32_t> sources = {-1, 2, 0, 3, 1, 1, -1};
      std::vector<int32_t> sampled = {70, 71, 72};
      std::vector<int32_t> out(7, -7);
      const LiveRows live(5);
      Stream stream(threads);
      ASSERT_TRUE(resolve_tokens({*table, stream},
                                 {.token_ids = view(literals, {7}),
                                  .token_source = view(sources, {7}),
                                  .sampled = view(sampled, {3}),
                                  .out = view(out, {7}),
                                  .num_rows = &live},
                                 "test")
                      .ok());
      // Row 3 names a logits row that is not there; rows 5 and 6 are pad rows.
      EXPECT_EQ(out, (std::vector<int32_t>{10, 72, 70, -1, 71, 0, 0})) << table->name;
    }
  }
}

TEST(GatherRows, CopiesTheNamedRowsAndZeroesTheRest) {
  for (const KernelTable* table : runnable_tables()) {
    for (const int64_t width : {1, 16, 37}) {
      for (const int threads : {1, 2, 5}) {
        std::mt19937 random(1);
        std::vector<float> x = random_floats(static_cast<size_t>(31 * width), random);
        std::vector<int32_t> rows = {30, 0, 30, 31, -1, 5, 6};
        std::vector<float> out(static_cast<size_t>(7 * width), kNan);
        const LiveRows live(5);
        Stream stream(threads);
        ASSERT_TRUE(gather_rows({*table, stream},
                                {.x = view(x, {31, width}),
                                 .rows = view(rows, {7}),
                                 .out = view(out, {7, width}),
                                 .num_logits_rows = &live},
                                "test")
                        .ok());
        for (int64_t i = 0; i < 7 * width; ++i) {
          const auto r = static_cast<size_t>(i / width);
          const float actual = out[static_cast<size_t>(i)];
          if (r < 3) {
            EXPECT_EQ(actual, x[static_cast<size_t>(rows[r] * width + i % width)])
                << table->name << " row " << r;
          } else if (r < 5) {
            EXPECT_TRUE(std::isnan(actual)) << table->name << " row " << r << " names no row of x";
          } else {
            EXPECT_EQ(actual, 0.0f) << table->name << " pad row " << r;
          }
        }
      }
    }
  }
}

TEST(Rows, NameWhatDoesNotFit) {
  std::vector<int32_t> ids(4);
  std::vector<float> x(12), out(8);
  const LiveRows live(2);
  Stream stream(1);
  const Launcher on{kernel_table(Isa::kReference), stream};
  EXPECT_EQ(resolve_tokens(on,
                           {.token_ids = view(ids, {4}),
                            .token_source = view(ids, {3}),
                            .sampled = view(ids, {2}),
                            .out = view(ids, {4}),
                            .num_rows = &live},
                           "test")
                .message(),
            "resolve_tokens: token_source has shape [3]; expected T = 4 as in token_ids [4]");
  GatherRowsArgs gather{
      .x = view(x, {3, 4}), .rows = view(ids, {2}), .out = view(out, {2, 4}), .num_logits_rows = nullptr};
  EXPECT_EQ(gather_rows(on, gather, "test").message(),
            "gather_rows: num_logits_rows is null; expected the address of a count");
  gather.num_logits_rows = &live;
  gather.rows.dtype = DType::kI64;
  EXPECT_EQ(gather_rows(on, gather, "test").message(), "gather_rows: rows is i64; expected i32");
  gather.rows.dtype = DType::kI32;
  gather.x.strides = {1, 3};
  EXPECT_EQ(gather_rows(on, gather, "test").message(),
            "gather_rows: x [3, 4] has an innermost stride of 3; expected 1");
  gather.x = view(x, {3, 4});
  const KernelTable empty{.name = "empty"};
  EXPECT_EQ(
      gather_rows({empty, stream}, gather, "test").message(),
      "gather_rows: the kernel table empty has no such kernel; use the table of another instruction set");
}

}  // namespace
}  // namespace lockstep
