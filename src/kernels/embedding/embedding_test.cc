#include "kernels/embedding/embedding.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/linear/matmul_case.h"

namespace lockstep {
namespace {

using namespace matmul_test;  // NOLINT

struct Call {
  const Weight& table;
  std::vector<int32_t> ids;  // live
  int64_t pads = 0;
  float scale = 1;
  int32_t first_row = 0;
  int32_t vocab = 0;

  // out, [T, E]; pad rows ask for a token that does not exist.
  std::vector<float> run(Isa isa, int threads) const {
    const auto live = static_cast<int64_t>(ids.size());
    const int64_t rows = live + pads, width = table.packed.k, stride = width + 3;
    std::vector<int32_t> tokens = ids;
    tokens.resize(static_cast<size_t>(rows), 1 << 30);
    std::vector<float> out(static_cast<size_t>(rows * stride), kNaN);
    const LiveRows num_rows(live);
    Stream stream(threads);
    const Status status = embedding({table_of(isa), stream},
                                    {.token_ids = view(tokens, {rows}),
                                     .table = table.packed,
                                     .out = strided(out, rows, width, stride),
                                     .num_rows = &num_rows,
                                     .first_row = first_row,
                                     .vocab = vocab,
                                     .scale = scale},
                                    "test");
    EXPECT_TRUE(status.ok()) << status.message();
    std::vector<float> dense;
    for (int64_t t = 0; t < rows; ++t) {
      dense.insert(dense.end(), out.begin() + t * stride, out.begin() + t * stride + width);
    }
    return dense;
  }
};

TEST(Embedding, GathersRowsOfEveryTypeAndLayout) {
  constexpr int64_t kVocabulary = 70;
  for (const Isa isa : runnable()) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      for (const WeightLayout layout : {WeightLayout::kRowMajor, WeightLayout::kPanel32}) {
        for (const int64_t width : {1, 2, 33, 64}) {
          SCOPED_TRACE(concat(name_of(isa), " ", dtype, " layout ", static_cast<int>(layout), " E ", width));
          const Weight table(random_values(kVocabulary * width, 5),
                             {.dtype = dtype, .layout = layout, .n = kVocabulary, .k = width});
          const Call call{.table = table, .ids = {0, 69, 31, 32, 33, 69}, .pads = 2, .scale = 3};

          const std::vector<float> out = call.run(isa, 5);

          for (size_t i = 0; i < out.size(); ++i) {
            const size_t t = i / static_cast<size_t>(width);
            const auto e = static_cast<int64_t>(i % static_cast<size_t>(width));
            ASSERT_EQ(out[i], t < call.ids.size() ? table.at(0, call.ids[t], e) * 3 : 0.0f)
                << "row " << t << " column " << e;
          }
        }
      }
    }
  }
}

TEST(Embedding, MarksATokenThatDoesNotExistWithNaN) {
  const Weight table(random_values(40, 5),
                     {.dtype = DType::kBF16, .layout = WeightLayout::kPanel32, .n = 10, .k = 4});
  for (const Isa isa : runnable()) {
    const std::vector<float> out = Call{.table = table, .ids = {-1, 10, 9}}.run(isa, 1);
    for (size_t i = 0; i < 8; ++i) EXPECT_TRUE(std::isnan(out[i])) << name_of(isa) << " element " << i;
    EXPECT_EQ(out[8], table.at(0, 9, 0)) << name_of(isa);
  }
}

TEST(Embedding, OfAShareGivesZerosForTheTokensOfOthers) {
  constexpr int64_t kVocabulary = 70, kWidth = 33;
  const std::vector<float> values = random_values(kVocabulary * kWidth, 5);
  const Weight whole(values,
                     {.dtype = DType::kF32, .layout = WeightLayout::kPanel32, .n = kVocabulary, .k = kWidth});
  const std::vector<int32_t> ids = {0, 69, 23, 24, 47, 48, -1, 70, 1 << 30};
  for (const Isa isa : runnable()) {
    const std::vector<float> expected = Call{.table = whole, .ids = ids, .pads = 1, .scale = 3}.run(isa, 2);
    // 24 rows each; the last share has 22 of the vocabulary and two rows of something else behind them.
    std::vector<float> sum(expected.size(), 0);
    for (const int32_t first : {0, 24, 48}) {
      std::vector<float> part(values.begin() + first * kWidth,
                              values.begin() + std::min<int64_t>(first + 24, kVocabulary) * kWidth);
      part.resize(24 * kWidth, 1e9f);
      const Weight table(part,
                         {.dtype = DType::kF32, .layout = WeightLayout::kPanel32, .n = 24, .k = kWidth});
      const Call call{.table = table,
                      .ids = ids,
                      .pads = 1,
                      .scale = 3,
                      .first_row = first,
                      .vocab = static_cast<int32_t>(kVocabulary)};
      const std::vector<float> out = call.run(isa, 2);
      for (size_t i = 0; i < out.size(); ++i) {
        const int32_t id = i / kWidth < ids.size() ? ids[i / kWidth] : 0;
        if (id >= 0 && id < kVocabulary && (id < first || id >= first + 24)) {
          ASSERT_EQ(out[i], 0.0f);
        }
        sum[i] += out[i];
      }
    }
    for (size_t i = 0; i < sum.size(); ++i) {
      const size_t row = i / kWidth;
      if (row >= 6 && row < ids.size()) {
        ASSERT_TRUE(std::isnan(sum[i])) << name_of(isa) << " row " << row;
      } else {
        ASSERT_EQ(sum[i], expected[i]) << name_of(isa) << " row " << row;
      }
    }
  }
}

TEST(Embedding, NamesWhatDoesNotFit) {
  const Weight table(random_values(40, 5),
                     {.dtype = DType::kF32, .layout = WeightLayout::kRowMajor, .n = 10, .k = 4});
  std::vector<int32_t> ids(3);
  std::vector<float> out(12);
  const LiveRows live(3);
  Stream stream(1);
  const EmbeddingArgs sound{
      .token_ids = view(ids, {3}), .table = table.packed, .out = view(out, {3, 4}), .num_rows = &live};
  const auto refusal = [&](const EmbeddingArgs& args, const KernelTable& kernels) {
    return embedding({kernels, stream}, args, "test").message();
  };
  const KernelTable& kernels = kernel_table(Isa::kReference);

  EXPECT_EQ(refusal(sound, kernels), "");
  EXPECT_EQ(refusal(sound, {.name = "empty"}),
            "embedding: the kernel table empty has no such kernel; use the table of another instruction set");
  EmbeddingArgs shape = sound;
  shape.out = view(out, {4, 3});
  EXPECT_EQ(refusal(shape, kernels), "embedding: out has shape [4, 3]; expected T = 3 as in token_ids [3]");
  EmbeddingArgs tokens = sound;
  tokens.token_ids.dtype = DType::kI64;
  EXPECT_EQ(refusal(tokens, kernels), "embedding: token_ids is i64; expected i32");
  EmbeddingArgs dtype = sound;
  dtype.table.dtype = DType::kI8;
  EXPECT_EQ(refusal(dtype, kernels), "embedding: table is i8; expected f32, f16 or bf16");
  EmbeddingArgs experts = sound;
  experts.table.experts = 2;
  EXPECT_EQ(refusal(experts, kernels), "embedding: table holds 2 matrices; expected 1");
  EmbeddingArgs share = sound;
  share.first_row = 10;
  EXPECT_EQ(refusal(share, kernels),
            "embedding: table begins at token 10 of 0; expected the vocabulary of which it is a share");
  EmbeddingArgs count = sound;
  count.num_rows = nullptr;
  EXPECT_EQ(refusal(count, kernels), "embedding: num_rows is null; expected the address of a count");
}

}  // namespace
}  // namespace lockstep
