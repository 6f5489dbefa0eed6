// Which blocks a query chooses, as the plain torch reference has it (tools/sala_reference.py): 1,000 random
// queries, more than half with an exact tie for the last place.
#include <gtest/gtest.h>

#include "../support/golden_file.h"
#include "kernels/sparse_attention/sparse_case.h"

namespace lockstep::testing {
namespace {

constexpr int32_t kDim = 16, kBlock = 64, kBlocks = 24, kMostQueries = 4, kMostChosen = 12;

struct Selections {
  std::vector<int8_t> contents, layout, queries;
  std::vector<int32_t> cases, chosen;

  static Selections open() {
    const GoldenFile file = GoldenFile::open(golden_folder("sparse_selections.safetensors"));
    return {.contents = file.read<int8_t>("contents"),
            .layout = file.read<int8_t>("layout"),
            .queries = file.read<int8_t>("queries"),
            .cases = file.read<int32_t>("cases"),
            .chosen = file.read<int32_t>("chosen")};
  }
  int32_t fact(size_t i, size_t which) const { return cases[i * 6 + which]; }

  // One sequence of one query; keys and queries are quarters of whole numbers.
  AttentionBatch batch(size_t i) const {
    const int32_t t = fact(i, 0), group = fact(i, 1);
    AttentionBatch batch =
        AttentionBatch::make({.heads = group, .kv_heads = 1, .head_dim = kDim}, {{.rows = 1, .cached = t}});
    SequenceValues& values = batch.values[0];
    for (size_t n = 0; n < values.k.size(); ++n) {
      const size_t token = n / kDim, block = token / kBlock;
      const auto held = static_cast<size_t>(layout[i * kBlocks + block]);
      values.k[n] = static_cast<float>(contents[(held * kBlock + token % kBlock) * kDim + n % kDim]) / 4;
    }
    const size_t first = values.q.size() - static_cast<size_t>(group * kDim);
    for (size_t n = 0; n < static_cast<size_t>(group * kDim); ++n)
      values.q[first + n] = static_cast<float>(queries[i * kMostQueries * kDim + n]) / 4;
    return batch;
  }
  std::vector<int32_t> expected(size_t i) const {
    std::vector<int32_t> blocks(chosen.begin() + static_cast<int64_t>(i * kMostChosen),
                                chosen.begin() + static_cast<int64_t>((i + 1) * kMostChosen));
    std::erase(blocks, -1);
    return blocks;
  }
};

TEST(Selections, AreThoseOfTheReferenceTiesIncluded) {
  const Selections golden = Selections::open();
  const size_t count = golden.cases.size() / 6;
  ASSERT_EQ(count, 1000u);
  Stream stream(1);
  const KernelTable* before = nullptr;
  for (const KernelTable* table : runnable_tables()) {
    if (before != nullptr && before->select_blocks == table->select_blocks) continue;
    before = table;
    int64_t ties = 0, by_score = 0;
    for (size_t i = 0; i < count; ++i) {
      const AttentionBatch batch = golden.batch(i);
      SparseCase placed(batch, {.page_tokens = 64, .seed = static_cast<uint32_t>(i)},
                        {.init_blocks = golden.fact(i, 3),
                         .window_blocks = golden.fact(i, 4),
                         .most_blocks = golden.fact(i, 2)});
      const Launcher on{*table, stream};
      ASSERT_TRUE(placed.dense().store(on).ok() && placed.compress(on).ok() && placed.select(on).ok());
      ASSERT_EQ(placed.list(0, 0), golden.expected(i)) << table->name << " case " << i;
      ties += golden.fact(i, 5);
      by_score += golden.fact(i, 0) / kBlock + 1 > golden.fact(i, 2) ? 1 : 0;
    }
    EXPECT_GT(ties, 300);
    EXPECT_GT(by_score, 500);
    std::cout << table->name << ": " << count << " queries, " << by_score
              << " of more blocks than they may have, " << ties << " with a tie for the last place\n";
  }
}

}  // namespace
}  // namespace lockstep::testing
