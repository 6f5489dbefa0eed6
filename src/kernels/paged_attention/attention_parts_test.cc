// Rows that see more tokens than one part holds.
#include "kernels/paged_attention/attention_parts.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/paged_attention/attention_case.h"

namespace lockstep {
namespace {

using namespace testing;  // NOLINT

// Around the ends of a part, of a workspace for few parts, and of the tokens for which parts grow.
std::vector<SequenceShape> long_rows() {
  std::vector<SequenceShape> sequences = {{.rows = 0, .cached = 700, .seed = 1}};
  uint32_t seed = 2;
  for (const int64_t tokens : {255, 256, 257, 511, 1025, 4095, 4096, 4097, 5003, 1})
    sequences.push_back({.rows = 1, .cached = tokens - 1, .seed = seed++});
  sequences.push_back({.rows = 3, .cached = 600, .seed = seed});
  return sequences;
}

std::vector<float> run_with(AttentionCase& placed, const KernelTable& table, int64_t workspace_bytes) {
  Stream stream(1);
  const Launcher on{table, stream};
  std::vector<float> out = nans(placed.rows_total() * placed.row_elements());
  std::vector<unsigned char> workspace(static_cast<size_t>(workspace_bytes), 0xFF);
  PagedAttentionArgs args = placed.args(out, 1);
  if (workspace_bytes > 0) args.workspace = view(workspace, {workspace_bytes});
  EXPECT_EQ(placed.store(on).message(), "");
  EXPECT_EQ(paged_attention(on, args, "test").message(), "");
  return out;
}

Placement in_bf16(int32_t page_tokens) {
  return {.layout = parse_kv_layout("apart/token").value(),
          .dtype = DType::kBF16,
          .page_tokens = page_tokens,
          .pad_rows = 2,
          .pad_sequences = 1};
}

TEST(AttentionParts, AreAsManyAsTheWorkspaceHasRoomFor) {
  int64_t most = 0;
  for (int64_t tokens = 1; tokens < (1 << 20); tokens += 1 + tokens / 64) {
    most = std::max(most, parts_of(tokens));
    ASSERT_GE(part_tokens(tokens) * parts_of(tokens), tokens);
    ASSERT_GE(most_parts(tokens), most) << tokens;
    ASSERT_LE(most_parts(tokens), kMostParts) << tokens;
  }
}

TEST(AttentionParts, OfLongRowsAreJoinedAsTheReferenceSums) {
  for (const int32_t head_dim : {64, 128, 192, 256}) {
    const HeadShape shape{.heads = 2, .kv_heads = 1, .head_dim = head_dim};
    const AttentionBatch batch = AttentionBatch::make(shape, long_rows());
    AttentionCase here(batch, in_bf16(16)), there(batch, in_bf16(16));
    const std::vector<float> expected = run_with(there, kernel_table(Isa::kReference), 0);
    const std::vector<float> out = run_with(here, *runnable_tables().back(), 0);
    // Scores are below 4 sqrt(D) and err by that in units of f32; elements are below 2.
    const float most = 16 * std::sqrt(static_cast<float>(head_dim)) * 0x1p-22f;
    for (size_t i = 0; i < out.size(); ++i)
      ASSERT_NEAR(out[i], expected[i], most) << "D " << head_dim << " element " << i;
  }
}

TEST(AttentionParts, HaveTheSameBitsForAsManyRowsAtATimeAsThereIsRoomFor) {
  const HeadShape shape{.heads = 4, .kv_heads = 2, .head_dim = 128};
  const AttentionBatch batch = AttentionBatch::make(shape, long_rows());
  const KernelTable& table = *runnable_tables().back();
  AttentionCase placed(batch, in_bf16(64)), elsewhere(batch, in_bf16(1));
  const std::vector<float> few = run_with(placed, table, 0);
  EXPECT_TRUE(same_bits(run_with(placed, table, 8 << 20), few));
  EXPECT_TRUE(same_bits(run_with(elsewhere, table, 8 << 20), few));
}

}  // namespace
}  // namespace lockstep
