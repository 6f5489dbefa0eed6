#include <gtest/gtest.h>

#include "kernels/sparse_attention/sparse_case.h"

namespace lockstep {
namespace {

using testing::runnable_tables;

float rounded(DType dtype, float value) {
  return with_float_type(dtype, [&]<typename T>() { return static_cast<float>(T(value)); });
}

// Every complete window is the mean of its keys as the cache has them, and every other byte is as it was.
void expect_means(const AttentionBatch& batch, DType dtype, SparseCase& placed) {
  const HeadShape& shape = batch.shape;
  std::vector<unsigned char> rest = placed.bytes();
  const auto check = [&](const TensorView& keys, int64_t size, int64_t stride, size_t s) {
    for (int64_t j = 0; j * stride + size <= batch.sequences[s].tokens(); ++j) {
      for (int64_t head = 0; head < shape.kv_heads; ++head) {
        for (int64_t d = 0; d < shape.head_dim; ++d) {
          float sum = 0;
          for (int64_t token = j * stride; token < j * stride + size; ++token)
            sum += rounded(
                dtype,
                batch.values[s].k[static_cast<size_t>((token * shape.kv_heads + head) * shape.head_dim + d)]);
          ASSERT_EQ(placed.window(keys, s, head, j, d), rounded(dtype, sum / static_cast<float>(size)))
              << "sequence " << s << " window " << j << " of " << size << " head " << head << " element "
              << d;
        }
      }
    }
  };
  for (size_t s = 0; s < batch.sequences.size(); ++s) {
    check(placed.k1(), 32, 16, s);
    check(placed.k2(), 128, 64, s);
  }
}

TEST(CompressKeys, WriteTheMeanOfEveryCompleteWindowInEveryLayout) {
  const AttentionBatch batch =
      AttentionBatch::make({.heads = 2, .kv_heads = 2, .head_dim = 48},
                           {{.rows = 31}, {.rows = 333, .seed = 2}, {.rows = 128, .seed = 3}});
  for (const KernelTable* table : runnable_tables()) {
    for (const KvLayout& layout : all_kv_layouts()) {
      for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
        if (table->name == "reference" && layout != all_kv_layouts().back()) continue;
        SparseCase placed(batch, {.layout = layout, .dtype = dtype, .page_tokens = 64}, {});
        Stream stream(1);
        ASSERT_TRUE(placed.dense().store({*table, stream}).ok());
        ASSERT_TRUE(placed.compress({*table, stream}).ok());
        expect_means(batch, dtype, placed);
      }
    }
  }
}

TEST(CompressKeys, WriteTheSameBytesWhereverASequenceIsCutAndNothingBesides) {
  const AttentionBatch batch = AttentionBatch::make({.heads = 1, .kv_heads = 2, .head_dim = 20},
                                                    {{.rows = 500}, {.rows = 270, .seed = 2}});
  std::vector<unsigned char> first;
  for (const KernelTable* table : runnable_tables()) {
    for (const int64_t chunk : {1000, 1, 13, 16, 64, 100}) {
      SparseCase placed(batch, {.dtype = DType::kBF16, .page_tokens = 16, .seed = 5}, {});
      Stream stream(chunk == 13 ? 3 : 1);
      ASSERT_TRUE(placed.dense().store({*table, stream}).ok());
      for (int64_t from = 0; from < 500; from += chunk)
        ASSERT_TRUE(placed.compress({*table, stream}, from, from + chunk).ok());
      if (first.empty()) first = placed.bytes();
      ASSERT_TRUE(placed.bytes() == first) << table->name << " chunks of " << chunk;
    }
  }
  // What began as NaN and is no window's: 30 + 15 windows of K1, 6 + 3 of K2, 2 heads of 20 elements.
  const auto written = static_cast<int64_t>(first.size()) / 2 -
                       std::count(reinterpret_cast<const uint16_t*>(first.data()),
                                  reinterpret_cast<const uint16_t*>(first.data() + first.size()), 0xFFFF);
  EXPECT_EQ(written, (30 + 15 + 6 + 3) * 2 * 20);
}

}  // namespace
}  // namespace lockstep
