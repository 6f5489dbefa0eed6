#include <gtest/gtest.h>

#include <set>

#include "kernels/sparse_attention/sparse_case.h"

namespace lockstep {
namespace {

using testing::runnable_tables;

float rounded(DType dtype, float value) {
  return with_float_type(dtype, [&]<typename T>() { return static_cast<float>(T(value)); });
}

// The definition, in f64 and sorted in the plainest way: what a row of a sequence chooses for a kv head.
struct Chosen {
  std::set<int32_t> blocks;
  double least_in = INFINITY;   // the smallest score that was chosen for itself
  double most_out = -INFINITY;  // the largest that was not
};

class Naive {
 public:
  Naive(const AttentionBatch& batch, DType dtype, const SelectionRule& rule)
      : batch_(batch), dtype_(dtype), rule_(rule) {}

  // Of the row at `position` of sequence s, whose prompt has `prompt` tokens.
  Chosen choose(size_t s, int64_t position, int64_t kv_head, int64_t prompt) const {
    Chosen chosen;
    if (std::max(prompt, position + 1) < rule_.dense_len) return chosen;
    const std::vector<double> scores = block_scores(s, position, kv_head);
    const int64_t own = position / 64;
    std::vector<int32_t> order(scores.size());
    std::iota(order.begin(), order.end(), 0);
    const auto forced = [&](int64_t b) {
      return b < rule_.init_blocks || (b >= own - rule_.window_blocks && b <= own);
    };
    const auto key = [&](int32_t b) { return forced(b) ? INFINITY : scores[static_cast<size_t>(b)]; };
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return key(a) > key(b); });
    for (size_t i = 0; i < order.size(); ++i) {
      const bool in = static_cast<int32_t>(i) < rule_.most_blocks;
      if (in) chosen.blocks.insert(order[i]);
      if (forced(order[i])) continue;
      if (in) chosen.least_in = std::min(chosen.least_in, scores[static_cast<size_t>(order[i])]);
      if (!in) chosen.most_out = std::max(chosen.most_out, scores[static_cast<size_t>(order[i])]);
    }
    return chosen;
  }

 private:
  double key(size_t s, int64_t token, int64_t head, int64_t d) const {
    const HeadShape& shape = batch_.shape;
    return static_cast<double>(rounded(
        dtype_,
        batch_.values[s].k[static_cast<size_t>((token * shape.kv_heads + head) * shape.head_dim + d)]));
  }
  // scale q · mean of `size` keys from `first` on.
  double product(size_t s, const float* q, int64_t kv_head, int64_t first, int64_t size) const {
    const int64_t windows = batch_.sequences[s].tokens() / 16 + 1;
    const int64_t heads = batch_.shape.kv_heads, sizes = size == 32 ? 0 : 1;
    means_.resize(batch_.sequences.size());
    means_[s].resize(static_cast<size_t>(2 * heads * windows));
    std::vector<double>& mean =
        means_[s][static_cast<size_t>((sizes * heads + kv_head) * windows + first / 16)];
    for (int64_t d = std::ssize(mean); d < batch_.shape.head_dim; ++d) {
      double sum = 0;
      for (int64_t token = first; token < first + size; ++token) sum += key(s, token, kv_head, d);
      mean.push_back(
          static_cast<double>(rounded(dtype_, static_cast<float>(sum / static_cast<double>(size)))));
    }
    double dot = 0;
    for (size_t d = 0; d < mean.size(); ++d) dot += static_cast<double>(q[d]) * mean[d];
    return dot / std::sqrt(static_cast<double>(batch_.shape.head_dim));
  }
  std::vector<double> block_scores(size_t s, int64_t position, int64_t kv_head) const {
    const HeadShape& shape = batch_.shape;
    std::vector<double> scores;
    for (int64_t first = 0; first + 32 <= position + 1; first += 16) scores.push_back(0);
    for (int64_t h = kv_head * shape.heads / shape.kv_heads; h < (kv_head + 1) * shape.heads / shape.kv_heads;
         ++h) {
      const float* q = batch_.values[s].q.data() + (position * shape.heads + h) * shape.head_dim;
      double total = 0;
      for (int64_t first = 0; first + 128 <= position + 1; first += 64)
        total += std::exp(product(s, q, kv_head, first, 128));
      for (size_t j = 0; j < scores.size(); ++j)
        scores[j] += std::exp(product(s, q, kv_head, static_cast<int64_t>(j) * 16, 32)) / total;
    }
    std::vector<double> pooled;
    for (int64_t b = 0; b <= position / 64; ++b) {
      double best = 0;
      for (int64_t j = 4 * b - 1; j <= 4 * b + 3; ++j) {
        if (j >= 0 && j < static_cast<int64_t>(scores.size()))
          best = std::max(best, scores[static_cast<size_t>(j)]);
      }
      pooled.push_back(best);
    }
    return pooled;
  }

  const AttentionBatch& batch_;
  DType dtype_;
  SelectionRule rule_;
  mutable std::vector<std::vector<std::vector<double>>> means_;  // by sequence; by size, head and window
};

struct RandomCase {
  AttentionBatch batch;
  Placement placement;
  SelectionRule rule;
  std::vector<int32_t> prompts;
};

RandomCase random_case(uint32_t seed) {
  std::mt19937 random(seed);
  const auto pick = [&](int32_t low, int32_t high) {
    return low + static_cast<int32_t>(random() % static_cast<uint32_t>(high - low + 1));
  };
  RandomCase made;
  const int32_t kv_heads = pick(1, 2);
  const HeadShape shape{
      .heads = kv_heads * pick(1, 5), .kv_heads = kv_heads, .head_dim = pick(0, 1) * 11 + 5};
  std::vector<SequenceShape> sequences;
  for (int32_t s = pick(1, 3); s > 0; --s) {
    sequences.push_back({.rows = pick(1, 4),
                         .cached = pick(0, 1) * pick(0, 200) + pick(0, 500),
                         .seed = static_cast<uint32_t>(random())});
  }
  made.batch = AttentionBatch::make(shape, std::move(sequences));
  made.rule = {.init_blocks = pick(0, 2),
               .window_blocks = pick(1, 2),
               .most_blocks = 0,
               .dense_len = pick(0, 3) == 0 ? pick(1, 500) : 0};
  made.rule.most_blocks = made.rule.init_blocks + made.rule.window_blocks + 1 + pick(0, 4);
  made.placement = {.layout = KvLayout{},
                    .dtype = pick(0, 1) == 0 ? DType::kF32 : DType::kBF16,
                    .page_tokens = 64 * pick(1, 2),
                    .pad_rows = pick(0, 2),
                    .pad_sequences = 2,
                    .seed = seed};
  for (size_t s = 0; s < made.batch.sequences.size(); ++s) {
    // Keys that come again every few blocks: blocks of exactly equal scores.
    const int64_t period = pick(0, 2) * 64, row = kv_heads * shape.head_dim;
    std::vector<float>& k = made.batch.values[s].k;
    for (size_t i = static_cast<size_t>(period * row); period > 0 && i < k.size(); ++i)
      k[i] = k[i - static_cast<size_t>(period * row)];
    const auto tokens = static_cast<int32_t>(made.batch.sequences[s].tokens());
    made.prompts.push_back(pick(0, 1) == 0 ? tokens : pick(1, tokens));
  }
  return made;
}

// The oracle, and of the others each in its turn.
std::vector<const KernelTable*> tables_for(uint32_t i) {
  std::vector<const KernelTable*> tables = runnable_tables();
  if (tables.size() > 2) tables = {tables[0], tables[1 + i % (tables.size() - 1)]};
  return tables;
}

TEST(SelectBlocks, ChoosesWhatTheDefinitionDoesOnAThousandRandomCases) {
  constexpr uint32_t kSeed = 9000;
  int64_t lists = 0, scored = 0, tied = 0, near = 0;
  Stream stream(1);
  for (uint32_t i = 0; i < 1000; ++i) {
    const RandomCase made = random_case(kSeed + i);
    const Naive naive(made.batch, made.placement.dtype, made.rule);
    std::vector<int32_t> first_counts, first_starts, first_blocks;
    for (const KernelTable* table : tables_for(i)) {
      SparseCase placed(made.batch, made.placement, made.rule, made.prompts);
      const Launcher on{*table, stream};
      ASSERT_TRUE(placed.dense().store(on).ok() && placed.compress(on).ok() && placed.select(on).ok());
      if (table->name != "reference") {
        ASSERT_TRUE(placed.counts() == first_counts && placed.starts() == first_starts &&
                    placed.blocks() == first_blocks)
            << table->name << " chooses otherwise, seed " << kSeed + i;
        continue;
      }
      first_counts = placed.counts(), first_starts = placed.starts(), first_blocks = placed.blocks();
      int64_t row = 0;
      for (size_t s = 0; s < made.batch.sequences.size(); ++s) {
        for (int64_t r = 0; r < made.batch.sequences[s].rows; ++r, ++row) {
          for (int64_t head = 0; head < made.batch.shape.kv_heads; ++head, ++lists) {
            const std::vector<int32_t> list = placed.list(row, head);
            const int64_t position = made.batch.sequences[s].cached + r;
            const Chosen want = naive.choose(s, position, head, made.prompts[s]);
            ASSERT_TRUE(std::is_sorted(list.begin(), list.end()));
            ASSERT_EQ(list.size(), want.blocks.size()) << "seed " << kSeed + i << " row " << row;
            scored += want.most_out >= 0 ? 1 : 0;
            tied += want.most_out >= 0 && want.most_out == want.least_in ? 1 : 0;
            if (std::equal(list.begin(), list.end(), want.blocks.begin(), want.blocks.end())) continue;
            // Scores that f32 cannot tell apart, but that are not equal.
            ASSERT_NE(want.most_out, want.least_in) << "seed " << kSeed + i << " row " << row;
            ASSERT_NEAR(want.most_out, want.least_in, 1e-5 * want.least_in) << "seed " << kSeed + i;
            ++near;
          }
        }
      }
      // What no list has is zero.
      for (size_t at = static_cast<size_t>(placed.starts().back()); at < placed.blocks().size(); ++at)
        ASSERT_EQ(placed.blocks()[at], 0);
    }
  }
  std::cout << "seeds " << kSeed << "..: " << lists << " lists, " << scored << " by score, " << tied
            << " of them with a tie at the edge, " << near << " other than in f64\n";
  EXPECT_GT(scored, 1000);
  EXPECT_GT(tied, 200);
  EXPECT_LE(near, 5);
}

// Chunks, batch mates and threads leave a row's list what it is.
TEST(SelectBlocks, GiveARowTheSameListHoweverItsSequenceIsCut) {
  const HeadShape shape{.heads = 4, .kv_heads = 2, .head_dim = 16};
  const SelectionRule rule{.init_blocks = 1, .window_blocks = 1, .most_blocks = 5, .dense_len = 0};
  const SequenceShape whole{.rows = 700, .cached = 0, .seed = 5};
  const AttentionBatch together = AttentionBatch::make(shape, {{.rows = 3, .cached = 400, .seed = 9}, whole});
  for (const KernelTable* table : runnable_tables()) {
    SparseCase all(together, {.page_tokens = 64}, rule);
    Stream stream(2);
    const std::vector<float> out = all.run(*table, stream);
    for (const int64_t position : {0, 300, 511, 512, 640, 699}) {
      const AttentionBatch one = AttentionBatch::make(shape, {{.rows = 1, .cached = position, .seed = 5}});
      SparseCase alone(one, {.page_tokens = 128, .seed = 3}, rule, {700});
      Stream single(1);
      const std::vector<float> row = alone.run(*table, single);
      for (int64_t head = 0; head < 2; ++head) EXPECT_EQ(alone.list(0, head), all.list(3 + position, head));
      EXPECT_TRUE(testing::same_bits(row.data(), out.data() + (3 + position) * 64, 64))
          << table->name << " position " << position;
    }
  }
}

TEST(SelectBlocks, LeaveRowsOfShortPromptsAndSequencesDense) {
  const AttentionBatch batch =
      AttentionBatch::make({.heads = 2, .kv_heads = 1, .head_dim = 16},
                           {{.rows = 3, .cached = 297, .seed = 1}, {.rows = 3, .cached = 297, .seed = 1}});
  for (const KernelTable* table : runnable_tables()) {
    // Of a prompt of 300 tokens the last row alone, of one of 512 all rows.
    SparseCase placed(batch, {}, {.init_blocks = 0, .window_blocks = 1, .most_blocks = 3, .dense_len = 300},
                      {299, 512});
    Stream stream(1);
    placed.run(*table, stream);
    EXPECT_EQ(placed.counts(), (std::vector<int32_t>{0, 0, 3, 3, 3, 3})) << table->name;
  }
}

TEST(SelectBlocks, NameWhatDoesNotFit) {
  const AttentionBatch batch =
      AttentionBatch::make({.heads = 2, .kv_heads = 1, .head_dim = 16}, {{.rows = 2}});
  SparseCase placed(batch, {}, {.most_blocks = 4});
  Stream stream(1);
  const Launcher on{kernel_table(Isa::kReference), stream};
  const auto refusal = [&](auto&& spoil) {
    SelectBlocksArgs args = placed.select_args(1);
    spoil(args);
    return select_blocks(on, args, "test").message();
  };
  EXPECT_EQ(refusal([](SelectBlocksArgs&) {}), "");
  EXPECT_EQ(
      refusal([](SelectBlocksArgs& args) { args.most_blocks = 2; }),
      "select_blocks: 1 first blocks, 1 before the row's own and 2 in all, dense below 0 tokens; expected "
      "none below 0 and all to hold the others and the row's own");
  EXPECT_EQ(
      refusal([](SelectBlocksArgs& args) { args.starts = args.starts.rows(0, 2); }),
      "select_blocks: counts, starts and blocks have shapes [2], [2] and [8]; expected [2], [3] and [8]");
  EXPECT_EQ(
      refusal([](SelectBlocksArgs& args) { args.k2.shape.dims[2] = 2; }),
      "select_blocks: pages have 4 rows of k1 and 2 of k2; expected 4 of k1 for each of k2, and at least "
      "those");
}

}  // namespace
}  // namespace lockstep
