#include "kernels/sparse_attention/sparse_attention.h"

#include <gtest/gtest.h>

#include "kernels/sparse_attention/sparse_case.h"

namespace lockstep {
namespace {

using testing::runnable_tables;
using testing::same_bits;

AttentionBatch ragged(const HeadShape& shape) {
  return AttentionBatch::make(shape, {{.rows = 9, .cached = 0, .seed = 1},
                                      {.rows = 1, .cached = 319, .seed = 2},
                                      {.rows = 70, .cached = 130, .seed = 3}});
}

// Lists of every block that a row sees, or of none.
std::vector<std::vector<int32_t>> all_blocks(const AttentionBatch& batch, bool listed) {
  std::vector<std::vector<int32_t>> lists;
  for (const SequenceShape& sequence : batch.sequences) {
    for (int64_t i = 0; i < sequence.rows * batch.shape.kv_heads; ++i) {
      lists.emplace_back();
      const int64_t position = sequence.cached + i / batch.shape.kv_heads;
      for (int32_t b = 0; listed && b <= position / 64; ++b) lists.back().push_back(b);
    }
  }
  return lists;
}

TEST(SparseAttention, HasTheBitsOfDenseAttentionWhereEveryBlockIsChosen) {
  Stream stream(2);
  for (const KernelTable* table : runnable_tables()) {
    if (table == runnable_tables().front()) continue;  // the oracle is as slow as plain
    if (table->name == name_of(Isa::kSm90)) continue;  // its dense kernel sums in another order
    for (const HeadShape& shape : {HeadShape{16, 1, 64}, HeadShape{6, 2, 80}, HeadShape{80, 1, 16}}) {
      const AttentionBatch batch = ragged(shape);
      for (const bool plain : {true, false}) {
        const char* layout = plain ? "apart/token" : "interleaved/shuffled8/shared";
        const Placement placement{.layout = parse_kv_layout(layout).value(),
                                  .dtype = plain ? DType::kF32 : DType::kBF16,
                                  .pad_rows = 3,
                                  .pad_sequences = 2};
        AttentionCase dense(batch, placement);
        const std::vector<float> want = dense.run(*table, stream);
        for (const bool listed : {false, true}) {
          SparseCase placed(batch, placement, {.most_blocks = 8});
          placed.set_lists(all_blocks(batch, listed));
          ASSERT_TRUE(placed.dense().store({*table, stream}).ok());
          std::vector<float> out;
          ASSERT_TRUE(sparse_attention({*table, stream}, placed.attend_args(out, 2), "test").ok());
          EXPECT_TRUE(same_bits(out, want)) << table->name << " " << layout << " " << listed;
        }
      }
    }
  }
}

// The tile of a list is not that of rows which see everything; the bits are the same all the same.
TEST(SparseAttention, HasTheBitsOfDenseAttentionOverTheChosenTokensAlone) {
  const HeadShape shape{.heads = 8, .kv_heads = 1, .head_dim = 64};
  const AttentionBatch batch = AttentionBatch::make(shape, {{.rows = 1, .cached = 64 * 6 + 20, .seed = 4}});
  const std::vector<int32_t> list = {0, 2, 3, 6};
  AttentionBatch few = AttentionBatch::make(shape, {{.rows = 1, .cached = 64 * 3 + 20, .seed = 4}});
  few.values[0].q.assign(batch.values[0].q.end() - 8 * 64, batch.values[0].q.end());
  few.values[0].q.insert(few.values[0].q.begin(), 8 * 64 * (64 * 3 + 20), 0.0f);
  for (const int64_t i : {0, 1, 2, 3}) {
    const int64_t block = 64 * 64, from = list[static_cast<size_t>(i)] * block;
    const int64_t count = i == 3 ? 21 * 64 : block;
    std::copy_n(batch.values[0].k.begin() + from, count, few.values[0].k.begin() + i * block);
    std::copy_n(batch.values[0].v.begin() + from, count, few.values[0].v.begin() + i * block);
  }
  Stream stream(1);
  for (const KernelTable* table : runnable_tables()) {
    if (table->name == name_of(Isa::kSm90)) continue;  // its dense kernel sums in another order
    SparseCase placed(batch, {}, {.most_blocks = 8});
    placed.set_lists({list});
    ASSERT_TRUE(placed.dense().store({*table, stream}).ok());
    std::vector<float> out;
    ASSERT_TRUE(sparse_attention({*table, stream}, placed.attend_args(out, 1), "test").ok());
    EXPECT_TRUE(same_bits(out, AttentionCase(few, {}).run(*table, stream))) << table->name;
  }
}

// Lists at random against the oracle, in every layout; pads are zero, and NaN in what no list has stays
// there.
void expect_lists_in_every_layout(const HeadShape& shape, double tolerance) {
  constexpr uint32_t kSeed = 77;
  const AttentionBatch batch = ragged(shape);
  std::mt19937 random(kSeed);
  std::vector<std::vector<int32_t>> lists = all_blocks(batch, true);
  for (std::vector<int32_t>& list : lists) {
    const int32_t own = list.back();
    std::erase_if(list, [&](int32_t block) { return block != own && random() % 3 == 0; });
  }
  Stream stream(2);
  const auto run = [&](const KernelTable& table, const KvLayout& layout) {
    SparseCase placed(batch, {.layout = layout, .dtype = DType::kBF16, .pad_rows = 5, .pad_sequences = 1},
                      {.most_blocks = 8});
    placed.set_lists(lists);
    LS_CHECK(placed.dense().store({table, stream}).ok());
    std::vector<float> out;
    LS_CHECK(sparse_attention({table, stream}, placed.attend_args(out, 2), "test").ok());
    return out;
  };
  const std::vector<float> want = run(kernel_table(Isa::kReference), KvLayout{});
  for (const KernelTable* table : runnable_tables()) {
    const std::vector<float> first = run(*table, KvLayout{});
    for (size_t i = 0; i < want.size(); ++i)
      ASSERT_NEAR(first[i], want[i], tolerance) << table->name << " " << i;
    const auto pads = static_cast<size_t>(5 * shape.heads * shape.head_dim);
    for (size_t i = want.size() - pads; i < want.size(); ++i) ASSERT_EQ(first[i], 0.0f);
    if (table->name == "reference") continue;
    for (const KvLayout& layout : all_kv_layouts()) {
      const std::vector<float> again = run(*table, layout);
      // The tensor cores take elements by eights: where four stay together, rows are summed otherwise.
      if (table->name == name_of(Isa::kSm90) && layout.chunk == 4) {
        for (size_t i = 0; i < want.size(); ++i)
          ASSERT_NEAR(again[i], want[i], tolerance) << layout << " " << i;
        continue;
      }
      EXPECT_TRUE(same_bits(again, first)) << table->name << " " << layout;
    }
  }
}

TEST(SparseAttention, AttendsToItsListsInEveryLayout) {
  expect_lists_in_every_layout({.heads = 6, .kv_heads = 2, .head_dim = 48}, 2e-5);
  // Two bf16 numbers for one keep 16 bits of queries and weights. The bound is for errors of random signs: a
  // score that lost 2^-17 of each product in the same direction could be off by more.
  expect_lists_in_every_layout({.heads = 10, .kv_heads = 1, .head_dim = 64}, 1e-4);
}

TEST(SparseAttention, NamesWhatDoesNotFit) {
  const AttentionBatch batch =
      AttentionBatch::make({.heads = 2, .kv_heads = 1, .head_dim = 16}, {{.rows = 2}});
  SparseCase placed(batch, {}, {.most_blocks = 4});
  Stream stream(1);
  std::vector<float> out;
  SparseAttentionArgs args = placed.attend_args(out, 1);
  args.starts = args.starts.rows(0, 2);
  EXPECT_EQ(
      sparse_attention({kernel_table(Isa::kReference), stream}, args, "test").message(),
      "sparse_attention: starts has shape [2] and blocks [8]; expected [3], a list per row and kv head, "
      "and [Z]");
}

}  // namespace
}  // namespace lockstep
