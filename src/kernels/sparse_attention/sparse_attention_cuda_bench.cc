// Block-sparse attention at the sizes of MiniCPM-SALA: 32 query heads over 2 key heads of 128 elements, 96
// blocks of 64 tokens a row, bf16 caches of 64K tokens.
#include <algorithm>
#include <numeric>

#include "kernels/block_selection/block_selection.h"
#include "kernels/common/device_bench.h"
#include "kernels/kv_cache/kv_layout.h"
#include "kernels/paged_attention/paged_attention.h"
#include "kernels/sparse_attention/sparse_attention.h"

namespace lockstep {
namespace {

constexpr int64_t kHeads = 32, kKvHeads = 2, kHeadDim = 128, kPageTokens = 64, kTokens = 65536;
constexpr int64_t kPages = kTokens / kPageTokens, kMostBlocks = 96;

// The last `rows` rows of one sequence. Each copy has pages of its own.
struct Case {
  int64_t rows;
  int64_t copies;
  TensorView page_table, table_rows, starts, lens, q, k1, k2, out, workspace;
  TensorView counts, list_starts, blocks;
  KvView cache;
  const LiveRows* num_rows = nullptr;
  const LiveSeqs* num_seqs = nullptr;

  int64_t lists() const { return rows * kKvHeads; }
  TensorView row_of(int64_t copy) const { return table_rows.rows(copy, 1); }
};

Result<KvView> random_cache(DeviceBench& bench, int64_t pages) {
  const KvLayout layout = LS_TRY(parse_kv_layout("apart/token"));
  const KvGeometry geometry{.dtype = DType::kBF16,
                            .num_pages = static_cast<int32_t>(pages),
                            .page_tokens = kPageTokens,
                            .heads = kKvHeads,
                            .head_dim = kHeadDim};
  const TensorView memory = LS_TRY(bench.random(DType::kBF16, {kv_cache_bytes(layout, geometry) / 2}));
  return make_kv_view(memory.data, layout, geometry);
}

Result<Case> make_case(DeviceBench& bench, int64_t rows) {
  Case made{.rows = rows, .copies = 4};
  const int64_t pages = made.copies * kPages + 1, lists = made.lists();
  std::vector<int32_t> table(static_cast<size_t>(made.copies * kPages)), order{0, 1, 2, 3};
  std::iota(table.begin(), table.end(), 1);
  made.page_table = LS_TRY(bench.upload(table, {made.copies, kPages}));
  made.table_rows = LS_TRY(bench.upload(order, {made.copies}));
  made.starts = LS_TRY(bench.upload(std::vector<int32_t>{0, static_cast<int32_t>(rows)}, {2}));
  made.lens = LS_TRY(bench.upload(std::vector<int32_t>{kTokens}, {1}));
  made.q = LS_TRY(bench.random(DType::kF32, {rows, kHeads, kHeadDim}));
  made.k1 = LS_TRY(bench.random(DType::kBF16, {pages, kKvHeads, kPageTokens / 16, kHeadDim}));
  made.k2 = LS_TRY(bench.random(DType::kBF16, {pages, kKvHeads, kPageTokens / 64, kHeadDim}));
  made.out = LS_TRY(bench.random(DType::kF32, {rows, kHeads, kHeadDim}));
  made.cache = LS_TRY(random_cache(bench, pages));
  const int64_t workspace = std::max(select_blocks_workspace_bytes(1, kHeadDim, kTokens),
                                     paged_attention_workspace_bytes(1, kHeads, kKvHeads, kHeadDim));
  made.workspace = LS_TRY(bench.arena().allocate("workspace", DType::kU8, {workspace}));
  made.counts = LS_TRY(bench.arena().allocate("counts", DType::kI32, {lists}));
  made.list_starts = LS_TRY(bench.arena().allocate("starts", DType::kI32, {lists + 1}));
  made.blocks = LS_TRY(bench.arena().allocate("blocks", DType::kI32, {lists * kMostBlocks}));
  made.num_rows = LS_TRY(bench.count<LiveRows>(static_cast<int32_t>(rows)));
  made.num_seqs = LS_TRY(bench.count<LiveSeqs>(1));
  return made;
}

Status select(DeviceBench& bench, const Case& of, int64_t copy) {
  return select_blocks(bench.on(),
                       {.q = of.q,
                        .k1 = of.k1,
                        .k2 = of.k2,
                        .page_table = of.page_table,
                        .table_rows = of.row_of(copy),
                        .query_start_loc = of.starts,
                        .seq_lens = of.lens,
                        .prompt_lens = of.lens,
                        .counts = of.counts,
                        .starts = of.list_starts,
                        .blocks = of.blocks,
                        .workspace = of.workspace,
                        .num_rows = of.num_rows,
                        .num_seqs = of.num_seqs,
                        .init_blocks = 1,
                        .window_blocks = 32,
                        .most_blocks = kMostBlocks,
                        .scale = 0.088388f},
                       "bench");
}

Status attend(DeviceBench& bench, const Case& of, int64_t copy) {
  return sparse_attention(bench.on(),
                          {.q = of.q,
                           .cache = of.cache,
                           .page_table = of.page_table,
                           .table_rows = of.row_of(copy),
                           .query_start_loc = of.starts,
                           .seq_lens = of.lens,
                           .starts = of.list_starts,
                           .blocks = of.blocks,
                           .out = of.out,
                           .workspace = of.workspace,
                           .num_rows = of.num_rows,
                           .num_seqs = of.num_seqs,
                           .scale = 0.088388f},
                          "bench");
}

// Lists are those of the selection, so it runs in any case.
Status time_rows(DeviceBench& bench, int64_t rows) {
  const std::string scores = concat("select blocks ", rows, " x 65536"),
                    attention = concat("sparse attention ", rows, " x 65536");
  if (!bench.wants(scores) && !bench.wants(attention)) return {};
  const int64_t mark = bench.arena().mark();
  const Case made = LS_TRY(make_case(bench, rows));
  const auto lists = static_cast<double>(made.lists());
  const double windows = kTokens / 16.0 + kTokens / 64.0, group = kHeads / kKvHeads;
  // Keys of many rows of one sequence are counted once.
  LS_TRY(bench.time({.name = scores,
                     .bytes = windows * kKvHeads * kHeadDim * 2,
                     .flop = 2 * lists * group * windows * kHeadDim,
                     .limit = "f32 products in an order that all devices keep"},
                    made.copies, [&](int64_t i) { return select(bench, made, i % made.copies); }));
  const double tokens = kMostBlocks * 64.0;
  LS_TRY(bench.time(
      {.name = attention,
       .bytes = 2 * std::min(tokens * static_cast<double>(rows), double{kTokens}) * kKvHeads * kHeadDim * 2,
       .flop = 4 * lists * group * tokens * kHeadDim,
       .limit = rows == 1 ? "latency: addresses, then tokens, then joining"
                          : "bf16 products, two numbers for one"},
      made.copies, [&](int64_t i) { return attend(bench, made, i % made.copies); }));
  return bench.arena().reset_to(mark);
}

}  // namespace

Status bench_sparse_attention(DeviceBench& bench) {
  for (const int64_t rows : {1, 512}) LS_TRY(time_rows(bench, rows));
  return {};
}

}  // namespace lockstep
