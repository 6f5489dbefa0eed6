// Attention whose queries and weights may enter their products rounded to bf16.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/paged_attention/attention_case.h"

namespace lockstep {
namespace {

using namespace testing;  // NOLINT

constexpr float kUnit = 0x1p-9f;  // relative error of one rounding to bf16

// The device's kernels where there is one: a CPU's compute the same without rounding.
const KernelTable& table() { return *runnable_tables().back(); }

std::vector<float> run_rounded(AttentionCase& placed, int32_t query_len = 0) {
  Stream stream(1);
  const Launcher on{table(), stream};
  std::vector<float> out = nans(placed.rows_total() * placed.row_elements());
  PagedAttentionArgs args = placed.args(out, 1);
  args.input = MatmulInput::kBF16;
  args.query_len = query_len;
  EXPECT_EQ(placed.store(on).message(), "");
  EXPECT_EQ(paged_attention(on, args, "test").message(), "");
  return out;
}

Placement in_bf16(std::string_view layout) {
  return {
      .layout = parse_kv_layout(layout).value(), .dtype = DType::kBF16, .pad_rows = 3, .pad_sequences = 2};
}

// Lengths around tiles of 64 tokens, prefill and decode, cached prefixes, empty sequences.
std::vector<SequenceShape> ragged() {
  return {{.rows = 90, .cached = 0, .seed = 1}, {.rows = 1, .cached = 130, .seed = 2},
          {.rows = 0, .cached = 0, .seed = 3},  {.rows = 200, .cached = 61, .seed = 4},
          {.rows = 1, .cached = 0, .seed = 5},  {.rows = 2, .cached = 63, .seed = 6},
          {.rows = 0, .cached = 20, .seed = 7}, {.rows = 65, .cached = 300, .seed = 8}};
}

// Elements are below 2 in magnitude. A score is a sum of D products whose factors err by a unit each at
// random: six times sqrt(D) scale 4 units holds; a weight errs by that and by a unit, and so does a mean of
// values.
float tolerance(const HeadShape& shape, float scale) {
  const float score = 6 * std::sqrt(static_cast<float>(shape.head_dim)) * scale * 4 * kUnit;
  return 2 * (2 * score + 2 * kUnit);
}

TEST(RoundedAttention, IsOffByItsRoundingsAtMost) {
  for (const auto& [head_dim, group] : {std::pair{64, 4},
                                        {80, 2},
                                        {96, 3},
                                        {128, 4},
                                        {128, 1},
                                        {128, 8},
                                        {128, 70},
                                        {192, 2},
                                        {256, 8},
                                        {24, 1},
                                        {33, 2}}) {
    const int32_t kv_heads = group < 8 ? 2 : 1;
    const HeadShape shape{.heads = kv_heads * group, .kv_heads = kv_heads, .head_dim = head_dim};
    const AttentionBatch batch = AttentionBatch::make(shape, ragged());
    AttentionCase exact(batch, in_bf16("apart/token"));
    Stream stream(1);
    const std::vector<float> expected = exact.run(table(), stream);
    AttentionCase placed(batch, in_bf16("interleaved/token/shared"));
    const std::vector<float> out = run_rounded(placed);
    const float most = tolerance(shape, placed.scale());
    for (size_t i = 0; i < out.size(); ++i) {
      ASSERT_NEAR(out[i], expected[i], most) << " D " << head_dim << " group " << group << " element " << i;
    }
    const auto live = static_cast<size_t>(placed.live_rows() * placed.row_elements());
    for (size_t i = live; i < out.size(); ++i) ASSERT_EQ(out[i], 0.0f);
  }
}

TEST(RoundedAttention, GivesASequenceTheSameBitsInEveryBatchLayoutAndPageSize) {
  const HeadShape shape{.heads = 8, .kv_heads = 2, .head_dim = 128};
  const AttentionBatch batch = AttentionBatch::make(shape, ragged());
  AttentionCase together(batch, in_bf16("apart/token"));
  const std::vector<float> whole = run_rounded(together);
  for (const int32_t page_tokens : {1, 12, 64, 128, 256}) {
    for (const std::string_view layout : {"apart/token", "interleaved/head/shared"}) {
      Placement other = in_bf16(layout);
      other.page_tokens = page_tokens;
      AttentionCase elsewhere(batch, other);
      EXPECT_TRUE(same_bits(run_rounded(elsewhere), whole)) << layout << " B " << page_tokens;
    }
  }
  for (size_t s = 0; s < batch.sequences.size(); ++s) {
    const AttentionBatch single = AttentionBatch::make(shape, {batch.sequences[s]});
    AttentionCase alone(single, in_bf16("apart/token"));
    const std::vector<float> out = run_rounded(alone);
    EXPECT_TRUE(same_bits(out.data(), whole.data() + together.first_row(s) * together.row_elements(),
                          batch.sequences[s].rows * together.row_elements()))
        << " sequence " << s;
  }
}

TEST(RoundedAttention, GivesADecodedRowTheSameBitsInAUniformStepAndBesidePrompts) {
  const HeadShape shape{.heads = 8, .kv_heads = 2, .head_dim = 128};
  const AttentionBatch mixed =
      AttentionBatch::make(shape, {{.rows = 70}, {.rows = 1, .cached = 600, .seed = 2}});
  const AttentionBatch decode = AttentionBatch::make(
      shape, {{.rows = 1, .cached = 600, .seed = 2}, {.rows = 1, .cached = 2, .seed = 3}});
  AttentionCase beside(mixed, in_bf16("apart/token")), uniform(decode, in_bf16("apart/token"));
  const std::vector<float> a = run_rounded(beside), b = run_rounded(uniform, 1);
  EXPECT_TRUE(same_bits(a.data() + 70 * beside.row_elements(), b.data(), beside.row_elements()));
}

TEST(RoundedAttention, GivesARowTheSameBitsInEveryChunkOfSeveralRows) {
  const HeadShape shape{.heads = 8, .kv_heads = 2, .head_dim = 64};
  const AttentionBatch prompt = AttentionBatch::make(shape, {{.rows = 300}});
  AttentionCase uncut(prompt, in_bf16("apart/token"));
  const std::vector<float> whole = run_rounded(uncut);
  for (const SequenceShape cut :
       {SequenceShape{.rows = 70}, {.rows = 13, .cached = 70}, {.rows = 217, .cached = 83}}) {
    const AttentionBatch part = AttentionBatch::make(shape, {cut});
    AttentionCase placed(part, in_bf16("apart/token"));
    const std::vector<float> out = run_rounded(placed);
    EXPECT_TRUE(same_bits(out.data(), whole.data() + cut.cached * uncut.row_elements(),
                          cut.rows * uncut.row_elements()))
        << " rows " << cut.rows << " behind " << cut.cached;
  }
}

// One of its tokens' values infinite, in a tile that all rows see whole and in one that hides tokens from
// some.
TEST(RoundedAttention, LetsNoRowSeeLaterTokensHoweverPoisonous) {
  constexpr int64_t kRows = 300;
  for (const int32_t head_dim : {64, 128, 192, 256}) {
    const HeadShape shape{.heads = 4, .kv_heads = 2, .head_dim = head_dim};
    const AttentionBatch batch = AttentionBatch::make(shape, {{.rows = kRows}});
    for (const int32_t page_tokens : {12, 16, 64}) {
      Placement placement = in_bf16("apart/token");
      placement.page_tokens = page_tokens;
      AttentionCase clean(batch, placement);
      const std::vector<float> before = run_rounded(clean);
      const int64_t row = clean.row_elements(), values = int64_t{shape.kv_heads} * head_dim;
      for (const int64_t token : {77, 270}) {
        AttentionBatch harmed = batch;
        std::vector<float>& v = harmed.values[0].v;
        std::fill_n(v.begin() + token * values, values, std::numeric_limits<float>::infinity());
        AttentionCase poisoned(harmed, placement);
        const std::vector<float> after = run_rounded(poisoned);
        EXPECT_TRUE(same_bits(before.data(), after.data(), token * row)) << head_dim << " token " << token;
        for (int64_t i = token * row; i < kRows * row; ++i) {
          ASSERT_FALSE(std::isfinite(after[static_cast<size_t>(i)]))
              << "D " << head_dim << " B " << page_tokens << " token " << token << " row " << i / row;
        }
      }
    }
  }
}

}  // namespace
}  // namespace lockstep
