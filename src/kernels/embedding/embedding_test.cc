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

  // out, [T, E]; pad rows ask for a token that does not exist.
  std::vector<float> run(Isa isa, int threads) const {
    const auto live = static_cast<int64_t>(ids.size());
    const int64_t rows = live + pads, width = table.packed.k, stride = width + 3;
    std::vector<int32_t> tokens = ids;
    tokens.resize(static_cast<size_t>(rows), 1 << 30);
    std::vector<float> out(static_cast<size_t>(rows * stride), kNaN);
    const LiveRows num_rows(live);
    Stream stream(threads);
    const Status status = embedding({kernel_table(isa), stream},
                                    {.token_ids = view(tokens, {rows}),
                                     .table = table.packed,
                                     .out = strided(out, rows, width, stride),
                                     .num_rows = &num_rows,
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
  EmbeddingArgs count = sound;
  count.num_rows = nullptr;
  EXPECT_EQ(refusal(count, kernels), "embedding: num_rows is null; expected the address of a count");
}

}  // namespace
}  // namespace lockstep
