#include "kernels/paged_attention/paged_attention.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/paged_attention/attention_case.h"

namespace lockstep {
namespace {

using namespace testing;  // NOLINT

constexpr double kUnit = 0x1p-24;  // relative error of one f32 rounding

// Tables whose attention differs: the oracle's, and one per vector type.
std::vector<const KernelTable*> attention_tables() {
  std::vector<const KernelTable*> tables;
  for (const KernelTable* table : runnable_tables()) {
    if (tables.empty() || tables.back()->paged_attention != table->paged_attention) tables.push_back(table);
  }
  return tables;
}

std::vector<const KernelTable*> fast_tables() {
  std::vector<const KernelTable*> tables = attention_tables();
  tables.erase(tables.begin());
  return tables;
}

KvLayout layout_of(std::string_view id) { return parse_kv_layout(id).value(); }

float rounded(float value, DType dtype) {
  return with_float_type(dtype, [&]<typename T>() { return static_cast<float>(static_cast<T>(value)); });
}

// What one query vector should get, over contiguous keys and values in f64, and how far off f32 may be.
struct Expectation {
  std::vector<double> out;
  double tolerance = 0;
};

// With u the unit and S = scale |q| max |k|, which bounds every score: the partial sums of a score's D
// products of random signs are below |q| |k|, so their roundings add up to about u S, and four times that is
// safe; a weight errs by this and by as much again for the subtraction of the maximum; the sums over n
// tokens, above and below the line, err by 4 sqrt(n) u; exponentials, corrections and the division by 8 u.
Expectation expect(const AttentionBatch& batch, size_t s, int64_t position, int64_t head, DType dtype) {
  const int64_t size = batch.shape.head_dim, kv_heads = batch.shape.kv_heads;
  const int64_t kv_head = head / (batch.shape.heads / kv_heads);
  const float* q = batch.values[s].q.data() + (position * batch.shape.heads + head) * size;
  const double scale = 1.0f / std::sqrt(static_cast<float>(size));
  const auto row = [&](const std::vector<float>& values, int64_t token) {
    std::vector<double> out;
    const float* from = values.data() + (token * kv_heads + kv_head) * size;
    for (int64_t d = 0; d < size; ++d) out.push_back(rounded(from[d], dtype));
    return out;
  };
  Expectation expected{.out = std::vector<double>(static_cast<size_t>(size), 0.0)};
  std::vector<double> scores;
  double norm_q = 0, norm_k = 0, largest_v = 0, total = 0;
  for (int64_t d = 0; d < size; ++d) norm_q += double{q[d]} * double{q[d]};
  for (int64_t token = 0; token <= position; ++token) {
    double dot = 0, norm = 0;
    const std::vector<double> k = row(batch.values[s].k, token);
    for (int64_t d = 0; d < size; ++d) {
      dot += double{q[d]} * k[static_cast<size_t>(d)];
      norm += k[static_cast<size_t>(d)] * k[static_cast<size_t>(d)];
    }
    scores.push_back(dot * scale);
    norm_k = std::max(norm_k, norm);
  }
  const double top = *std::max_element(scores.begin(), scores.end());
  for (int64_t token = 0; token <= position; ++token) {
    const double weight = std::exp(scores[static_cast<size_t>(token)] - top);
    const std::vector<double> v = row(batch.values[s].v, token);
    total += weight;
    for (size_t d = 0; d < v.size(); ++d) {
      expected.out[d] += weight * v[d];
      largest_v = std::max(largest_v, std::abs(v[d]));
    }
  }
  for (double& out : expected.out) out /= total;
  const double bound = scale * std::sqrt(norm_q * norm_k), n = static_cast<double>(position + 1);
  const double units = 8 * bound + 4 * std::sqrt(n) + 8;
  expected.tolerance = largest_v * units * kUnit;
  return expected;
}

// Every live row as expected, every other row zero.
void expect_definition(const AttentionBatch& batch, const Placement& placement,
                       const std::vector<float>& out) {
  const int64_t size = batch.shape.head_dim, heads = batch.shape.heads;
  int64_t row = 0;
  for (size_t s = 0; s < batch.sequences.size(); ++s) {
    for (int64_t i = 0; i < batch.sequences[s].rows; ++i, ++row) {
      for (int64_t h = 0; h < heads; ++h) {
        const Expectation expected = expect(batch, s, batch.sequences[s].cached + i, h, placement.dtype);
        for (int64_t d = 0; d < size; ++d) {
          ASSERT_NEAR(out[static_cast<size_t>((row * heads + h) * size + d)],
                      expected.out[static_cast<size_t>(d)], expected.tolerance)
              << "sequence " << s << " row " << i << " head " << h << " element " << d;
        }
      }
    }
  }
  for (auto i = static_cast<size_t>(row * heads * size); i < out.size(); ++i) ASSERT_EQ(out[i], 0.0f);
}

// Two tokens, one head: the second row's scores are `first` and 0.
std::vector<float> two_rows(const KernelTable& table, float first) {
  AttentionBatch batch = AttentionBatch::make({.heads = 1, .kv_heads = 1, .head_dim = 16}, {{.rows = 2}});
  SequenceValues& values = batch.values[0];
  for (std::vector<float>* all : {&values.q, &values.k, &values.v}) std::fill(all->begin(), all->end(), 0.0f);
  values.q[0] = values.q[16] = 4;  // scale is 1 / 4
  values.k[0] = first;
  for (size_t d = 0; d < 16; ++d) {
    values.v[d] = 8;
    values.v[16 + d] = static_cast<float>(d);
  }
  AttentionCase placed(batch, {.layout = layout_of("apart/token")});
  Stream stream(1);
  return placed.run(table, stream);
}

TEST(PagedAttention, AveragesTheValuesThatARowSees) {
  for (const KernelTable* table : attention_tables()) {
    const std::vector<float> even = two_rows(*table, 0), first_only = two_rows(*table, 200);
    const std::vector<float> thirds = two_rows(*table, std::log(2.0f));
    for (size_t d = 0; d < 16; ++d) {
      EXPECT_EQ(even[d], 8) << table->name;
      EXPECT_FLOAT_EQ(even[16 + d], (8 + static_cast<float>(d)) / 2) << table->name;
      EXPECT_FLOAT_EQ(first_only[16 + d], 8) << table->name;
      EXPECT_NEAR(thirds[16 + d], (2 * 8 + static_cast<float>(d)) / 3, 8 * 4 * kUnit) << table->name;
    }
  }
}

TEST(PagedAttention, GivesNoWeightToScoresOfMinusInfinity) {
  for (const KernelTable* table : attention_tables()) {
    const std::vector<float> out = two_rows(*table, -std::numeric_limits<float>::infinity());
    for (size_t d = 0; d < 16; ++d) {
      EXPECT_EQ(out[d], 0.0f) << table->name;  // nothing but -inf to see
      EXPECT_EQ(out[16 + d], static_cast<float>(d)) << table->name;
    }
  }
}

// Awkward on purpose: lengths around pages and blocks, prefill and decode, cached prefixes, empty sequences.
std::vector<SequenceShape> ragged() {
  return {{.rows = 9, .cached = 0, .seed = 1},  {.rows = 1, .cached = 130, .seed = 2},
          {.rows = 0, .cached = 0, .seed = 3},  {.rows = 5, .cached = 60, .seed = 4},
          {.rows = 1, .cached = 0, .seed = 5},  {.rows = 17, .cached = 63, .seed = 6},
          {.rows = 0, .cached = 20, .seed = 7}, {.rows = 1, .cached = 63, .seed = 8}};
}

struct Kind {
  DType dtype;
  int32_t head_dim;
};
class EveryLayout : public ::testing::TestWithParam<Kind> {};

TEST_P(EveryLayout, IsRightAndBitIdenticalWhateverTheLayoutAndThePageSize) {
  Stream stream(1);
  for (const int32_t group : {1, 2, 4, 8}) {
    const int32_t kv_heads = group < 4 ? 3 : 1;
    const HeadShape shape{.heads = kv_heads * group, .kv_heads = kv_heads, .head_dim = GetParam().head_dim};
    const AttentionBatch batch = AttentionBatch::make(shape, ragged());
    for (const KernelTable* table : fast_tables()) {
      std::vector<float> first;
      for (const KvLayout& layout : all_kv_layouts()) {
        for (const int32_t page_tokens : {1, 16, 64, 128}) {
          const Placement placement{.layout = layout,
                                    .dtype = GetParam().dtype,
                                    .page_tokens = page_tokens,
                                    .pad_rows = 3,
                                    .pad_sequences = 2,
                                    .seed = static_cast<uint32_t>(page_tokens)};
          AttentionCase placed(batch, placement);
          const std::vector<float> out = placed.run(*table, stream);
          if (first.empty()) {
            first = out;
            expect_definition(batch, placement, out);
          }
          ASSERT_TRUE(same_bits(out, first))
              << table->name << " " << layout << " B " << page_tokens << " group " << group;
        }
      }
    }
  }
}

std::vector<Kind> all_kinds() {
  std::vector<Kind> kinds;
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const int32_t head_dim : {16, 64, 80, 128, 256}) kinds.push_back({dtype, head_dim});
  }
  return kinds;
}
INSTANTIATE_TEST_SUITE_P(PagedAttention, EveryLayout, ::testing::ValuesIn(all_kinds()),
                         [](const auto& kind) { return concat(kind.param.dtype, "_", kind.param.head_dim); });

TEST(PagedAttention, ServesHeadSizesAndGroupsThatFillNoVector) {
  Stream stream(1);
  for (const KernelTable* table : attention_tables()) {
    for (const int32_t head_dim : {1, 7, 24, 33, 100}) {
      for (const int32_t group : {3, 5, 7, 70}) {
        for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
          SCOPED_TRACE(concat(table->name, " D ", head_dim, " group ", group, " ", dtype));
          const HeadShape shape{.heads = group, .kv_heads = 1, .head_dim = head_dim};
          const AttentionBatch batch = AttentionBatch::make(shape, {{.rows = 3, .cached = 65}, {.rows = 2}});
          const Placement placement{.layout = layout_of("apart/head"), .dtype = dtype, .pad_rows = 1};
          AttentionCase placed(batch, placement);
          expect_definition(batch, placement, placed.run(*table, stream));
        }
      }
    }
  }
}

TEST(PagedAttention, GivesASequenceTheSameBitsInEveryBatchAndOnAnyNumberOfThreads) {
  for (const KernelTable* table : attention_tables()) {
    const HeadShape shape{.heads = 8, .kv_heads = 4, .head_dim = 80};
    const AttentionBatch batch = AttentionBatch::make(shape, ragged());
    const Placement placement{.layout = layout_of("interleaved/token"), .dtype = DType::kBF16, .pad_rows = 2};
    AttentionCase together(batch, placement);
    Stream one(1);
    const std::vector<float> whole = together.run(*table, one);
    for (const int threads : {2, 3, 5}) {
      Stream several(threads);
      EXPECT_TRUE(same_bits(together.run(*table, several), whole)) << table->name << " threads " << threads;
    }
    for (size_t s = 0; s < batch.sequences.size(); ++s) {
      const AttentionBatch single = AttentionBatch::make(shape, {batch.sequences[s]});
      AttentionCase alone(single, placement);
      const std::vector<float> out = alone.run(*table, one);
      const int64_t count = batch.sequences[s].rows * together.row_elements();
      const float* from = whole.data() + together.first_row(s) * together.row_elements();
      EXPECT_TRUE(same_bits(out.data(), from, count)) << table->name << " sequence " << s;
    }
  }
}

TEST(PagedAttention, GivesARowTheSameBitsHoweverItsPromptIsCut) {
  for (const KernelTable* table : attention_tables()) {
    for (const int32_t group : {1, 2, 8}) {
      const HeadShape shape{.heads = 8, .kv_heads = 8 / group, .head_dim = 64};
      const Placement placement{.layout = layout_of("apart/head"), .dtype = DType::kF16};
      Stream stream(2);
      const AttentionBatch prompt = AttentionBatch::make(shape, {{.rows = 200}});
      AttentionCase uncut(prompt, placement);
      const std::vector<float> whole = uncut.run(*table, stream);
      // Chunks of a prompt, and the single row of a decode step.
      for (const SequenceShape cut : {SequenceShape{.rows = 70},
                                      {.rows = 13, .cached = 70},
                                      {.rows = 117, .cached = 83},
                                      {.rows = 1, .cached = 127},
                                      {.rows = 1, .cached = 128},
                                      {.rows = 1, .cached = 199}}) {
        const AttentionBatch part = AttentionBatch::make(shape, {cut});
        AttentionCase placed(part, placement);
        const std::vector<float> out = placed.run(*table, stream);
        EXPECT_TRUE(same_bits(out.data(), whole.data() + cut.cached * uncut.row_elements(),
                              cut.rows * uncut.row_elements()))
            << table->name << " group " << group << " rows " << cut.rows << " behind " << cut.cached;
      }
    }
  }
}

TEST(PagedAttention, LetsNoRowSeeLaterTokensHoweverPoisonous) {
  for (const KernelTable* table : attention_tables()) {
    const HeadShape shape{.heads = 4, .kv_heads = 2, .head_dim = 64};
    AttentionBatch batch = AttentionBatch::make(shape, {{.rows = 90}, {.rows = 1, .cached = 10, .seed = 9}});
    const Placement placement{.layout = layout_of("interleaved/shuffled8"), .dtype = DType::kBF16};
    Stream stream(1);
    AttentionCase clean(batch, placement);
    const std::vector<float> before = clean.run(*table, stream);
    // Token 77 of the first sequence turns to NaN keys and values of infinity.
    for (size_t i = 77 * 128; i < 78 * 128; ++i) {
      batch.values[0].k[i] = kNan;
      batch.values[0].v[i] = std::numeric_limits<float>::infinity();
    }
    AttentionCase poisoned(batch, placement);
    const std::vector<float> after = poisoned.run(*table, stream);
    const int64_t row = clean.row_elements();
    EXPECT_TRUE(same_bits(before.data(), after.data(), 77 * row)) << table->name;
    EXPECT_TRUE(same_bits(before.data() + 90 * row, after.data() + 90 * row, row)) << table->name;
    for (int64_t i = 77 * row; i < 90 * row; ++i) {
      ASSERT_TRUE(std::isnan(after[static_cast<size_t>(i)])) << table->name << " row " << i / row;
    }
  }
}

TEST(PagedAttention, WritesZerosForRowsThatNoLiveSequenceOwns) {
  for (const KernelTable* table : attention_tables()) {
    const AttentionBatch nobody = AttentionBatch::make({.heads = 4, .kv_heads = 2, .head_dim = 16}, {});
    AttentionCase placed(nobody, {.layout = layout_of("apart/token"), .pad_rows = 5, .pad_sequences = 3});
    Stream stream(2);
    EXPECT_EQ(placed.run(*table, stream), std::vector<float>(5 * 64, 0.0f)) << table->name;
  }
}

TEST(PagedAttention, ReachesPagesBeyondTwoToTheThirtyFirstElement) {
  const KvLayout layout = layout_of("apart/token/shared");
  KvGeometry geometry{.dtype = DType::kF32, .num_pages = 3, .page_tokens = 4, .heads = 1, .head_dim = 16};
  geometry.shared_page_bytes = (int64_t{1} << 33) + 64;  // page 1 begins at element 2^31 + 16
  Result<Arena> arena = Arena::create("sparse", kv_cache_bytes(layout, geometry));
  ASSERT_TRUE(arena.ok()) << arena.status().message();
  const TensorView memory = arena->allocate("pages", DType::kU8, {kv_cache_bytes(layout, geometry)}).value();
  const KvView cache = make_kv_view(memory.data, layout, geometry);
  for (const KernelTable* table : attention_tables()) {
    if (table->name == name_of(Isa::kSm90)) continue;  // 24 GiB would have to be brought to it
    std::vector<float> k(8 * 16, 0.0f), v(8 * 16), q(16, 0.0f), out = nans(16);
    for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(i / 16);
    std::vector<int64_t> slots = {8, 9, 10, 11, 4, 5, 6, 7};
    std::vector<int32_t> pages = {2, 1}, rows = {0}, starts = {0, 1}, lens = {8};
    std::vector<unsigned char> workspace(static_cast<size_t>(paged_attention_workspace_bytes(1, 1, 1, 16)));
    const LiveRows tokens(8), live(1);
    const LiveSeqs seqs(1);
    Stream stream(1);
    const Launcher on{*table, stream};
    const StoreKvArgs store{.k = view(k, {8, 1, 16}),
                            .v = view(v, {8, 1, 16}),
                            .slot_mapping = view(slots, {8}),
                            .cache = cache,
                            .num_rows = &tokens};
    ASSERT_TRUE(store_kv(on, store, "test").ok());
    const PagedAttentionArgs args{.q = view(q, {1, 1, 16}),
                                  .cache = cache,
                                  .page_table = view(pages, {1, 2}),
                                  .table_rows = view(rows, {1}),
                                  .query_start_loc = view(starts, {2}),
                                  .seq_lens = view(lens, {1}),
                                  .out = view(out, {1, 1, 16}),
                                  .workspace = view(workspace, {static_cast<int64_t>(workspace.size())}),
                                  .num_rows = &live,
                                  .num_seqs = &seqs};
    ASSERT_TRUE(paged_attention(on, args, "test").ok());
    EXPECT_EQ(out, std::vector<float>(16, 3.5f)) << table->name;  // the mean of 0..7
  }
}

TEST(PagedAttention, NamesWhatDoesNotFit) {
  const AttentionBatch batch =
      AttentionBatch::make({.heads = 4, .kv_heads = 2, .head_dim = 16}, {{.rows = 2}, {.rows = 1}});
  AttentionCase placed(batch, {.layout = layout_of("apart/token")});
  Stream stream(1);
  std::vector<float> out(3 * 64);
  const KernelTable empty{.name = "empty"};
  const KernelTable& table = kernel_table(Isa::kReference);
  const auto refusal = [&](const PagedAttentionArgs& given, const KernelTable& from) {
    return paged_attention({from, stream}, given, "test").message();
  };
  const PagedAttentionArgs args = placed.args(out, 1);

  EXPECT_EQ(
      refusal(args, empty),
      "paged_attention: the kernel table empty has no such kernel; use the table of another instruction "
      "set");
  PagedAttentionArgs heads = args;
  heads.cache.heads = 3;
  EXPECT_EQ(
      refusal(heads, table),
      "paged_attention: q has shape [3, 4, 16]; expected D = 16 and H a multiple of K = 3 as in the cache");
  PagedAttentionArgs dtype = args;
  dtype.cache.dtype = DType::kI8;
  EXPECT_EQ(refusal(dtype, table), "paged_attention: cache is i8; expected f32, f16 or bf16");
  PagedAttentionArgs starts = args;
  starts.query_start_loc.shape = {2};
  EXPECT_EQ(refusal(starts, table),
            "paged_attention: query_start_loc has shape [2]; expected [3], one more than seq_lens [2]");
  PagedAttentionArgs rows = args;
  rows.table_rows.shape = {1};
  EXPECT_EQ(refusal(rows, table),
            "paged_attention: seq_lens has shape [2]; expected S = 1 as in table_rows [1]");
  PagedAttentionArgs lens = args;
  lens.seq_lens.dtype = DType::kI64;
  EXPECT_EQ(refusal(lens, table), "paged_attention: seq_lens is i64; expected i32");
  PagedAttentionArgs workspace = args;
  workspace.workspace.shape = {64};
  EXPECT_EQ(refusal(workspace, table), concat("paged_attention: workspace has 64 bytes; expected at least ",
                                              paged_attention_workspace_bytes(1, 4, 2, 16)));
  PagedAttentionArgs count = args;
  count.num_seqs = nullptr;
  EXPECT_EQ(refusal(count, table), "paged_attention: num_seqs is null; expected the address of a count");
}

}  // namespace
}  // namespace lockstep
