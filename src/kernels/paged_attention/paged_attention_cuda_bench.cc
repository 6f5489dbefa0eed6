// paged_attention at the sizes of an 8B model: 32 query heads over 8 key heads of 128 elements, bf16 caches.
#include <algorithm>
#include <numeric>
#include <random>

#include "kernels/common/device_bench.h"
#include "kernels/kv_cache/kv_layout.h"
#include "kernels/paged_attention/attention_parts.h"
#include "kernels/paged_attention/paged_attention.h"

namespace lockstep {
namespace {

constexpr int32_t kHeads = 32, kKvHeads = 8, kHeadDim = 128, kPageTokens = 64;

struct Sizes {
  const char* name;
  int64_t sequences;
  int64_t rows;    // of each, the last of
  int64_t tokens;  // of each
  bool scattered = true;
  const char* limit;
  const char* layout = "apart/token";
  int64_t pages() const { return tokens / kPageTokens; }
  double flop() const {  // a row at position p sees p + 1 tokens
    const double seen =
        static_cast<double>(rows) * (static_cast<double>(tokens) - 0.5 * static_cast<double>(rows - 1));
    return 4.0 * kHeads * kHeadDim * static_cast<double>(sequences) * seen;
  }
  double bytes() const {
    return static_cast<double>(sequences) * (2.0 * static_cast<double>(tokens) * kKvHeads * kHeadDim * 2 +
                                             2.0 * static_cast<double>(rows) * kHeads * kHeadDim * 4);
  }
};

// Tables of enough batches that no cache holds them, each a row per sequence.
Result<TensorView> page_tables(DeviceBench& bench, const Sizes& sizes, int64_t rows) {
  std::vector<int32_t> pages(static_cast<size_t>(rows * sizes.pages()));
  std::iota(pages.begin(), pages.end(), 1);
  std::mt19937 random(1);
  if (sizes.scattered) std::shuffle(pages.begin(), pages.end(), random);
  return bench.upload(pages, {rows, sizes.pages()});
}

Result<KvView> random_cache(DeviceBench& bench, std::string_view id, int64_t pages) {
  const KvLayout layout = LS_TRY(parse_kv_layout(id));
  const KvGeometry geometry{.dtype = DType::kBF16,
                            .num_pages = static_cast<int32_t>(pages),
                            .page_tokens = kPageTokens,
                            .heads = kKvHeads,
                            .head_dim = kHeadDim};
  const TensorView memory = LS_TRY(bench.random(DType::kBF16, {kv_cache_bytes(layout, geometry) / 2}));
  return make_kv_view(memory.data, layout, geometry);
}

Status time_attention(DeviceBench& bench, const Sizes& sizes) {
  if (!bench.wants(sizes.name)) return {};
  const int64_t mark = bench.arena().mark(), rows = sizes.sequences * sizes.rows;
  const int64_t copies = DeviceBench::copies(static_cast<int64_t>(sizes.bytes())),
                all = copies * sizes.sequences;
  std::vector<int32_t> starts, lens(static_cast<size_t>(sizes.sequences), static_cast<int32_t>(sizes.tokens));
  for (int64_t s = 0; s <= sizes.sequences; ++s) starts.push_back(static_cast<int32_t>(s * sizes.rows));
  std::vector<int32_t> order(static_cast<size_t>(all));
  std::iota(order.begin(), order.end(), 0);
  const TensorView table_rows = LS_TRY(bench.upload(order, {copies, sizes.sequences}));
  PagedAttentionArgs args{.q = LS_TRY(bench.random(DType::kF32, {rows, kHeads, kHeadDim})),
                          .cache = LS_TRY(random_cache(bench, sizes.layout, all * sizes.pages() + 1)),
                          .page_table = LS_TRY(page_tables(bench, sizes, all)),
                          .table_rows = {},
                          .query_start_loc = LS_TRY(bench.upload(starts, {sizes.sequences + 1})),
                          .seq_lens = LS_TRY(bench.upload(lens, {sizes.sequences})),
                          .out = LS_TRY(bench.random(DType::kF32, {rows, kHeads, kHeadDim})),
                          .workspace = {},
                          .num_rows = LS_TRY(bench.count<LiveRows>(static_cast<int32_t>(rows))),
                          .num_seqs = LS_TRY(bench.count<LiveSeqs>(static_cast<int32_t>(sizes.sequences))),
                          .scale = 0.088388f,
                          .input = MatmulInput::kBF16,
                          .query_len = static_cast<int32_t>(sizes.rows)};
  const int64_t scratch =
      std::max(paged_attention_workspace_bytes(1, kHeads, kKvHeads, kHeadDim),
               sizes.sequences * row_parts_bytes(kHeads, kHeadDim, most_parts(sizes.tokens)));
  args.workspace = LS_TRY(bench.arena().allocate("workspace", DType::kU8, {scratch}));
  const BenchRow row{.name = sizes.name, .bytes = sizes.bytes(), .flop = sizes.flop(), .limit = sizes.limit};
  LS_TRY(bench.time(row, std::max<int64_t>(copies, 4), [&](int64_t i) {
    args.table_rows = table_rows.rows(i % copies, 1).reshaped({sizes.sequences});
    return paged_attention(bench.on(), args, "bench");
  }));
  return bench.arena().reset_to(mark);
}

constexpr const char* kReads = "waiting for memory, two tiles of each warp on their way";
constexpr const char* kLatency = "latency: rows, pages, tokens, a second launch that joins";
constexpr const char* kProducts = "exponentials beside bf16 products; the beginning and end of a tile";

constexpr Sizes kSizes[] = {
    {.name = "decode attention 1 x 1024", .sequences = 1, .rows = 1, .tokens = 1024, .limit = kLatency},
    {.name = "decode attention 32 x 1024", .sequences = 32, .rows = 1, .tokens = 1024, .limit = kReads},
    {.name = "decode attention 128 x 1024", .sequences = 128, .rows = 1, .tokens = 1024, .limit = kReads},
    {.name = "decode attention 32 x 4096", .sequences = 32, .rows = 1, .tokens = 4096, .limit = kReads},
    {.name = "decode attention 32 x 4096 head by head",
     .sequences = 32,
     .rows = 1,
     .tokens = 4096,
     .limit = kReads,
     .layout = "apart/head"},
    {.name = "decode attention 1 x 262144", .sequences = 1, .rows = 1, .tokens = 262144, .limit = kReads},
    {.name = "prefill attention 1024 paged",
     .sequences = 1,
     .rows = 1024,
     .tokens = 1024,
     .limit = kProducts},
    {.name = "prefill attention 2048 paged",
     .sequences = 1,
     .rows = 2048,
     .tokens = 2048,
     .limit = kProducts},
    {.name = "prefill attention 8192 paged",
     .sequences = 1,
     .rows = 8192,
     .tokens = 8192,
     .limit = kProducts},
    {.name = "prefill attention 16384 paged",
     .sequences = 1,
     .rows = 16384,
     .tokens = 16384,
     .limit = kProducts},
    {.name = "prefill attention 16384 contiguous",
     .sequences = 1,
     .rows = 16384,
     .tokens = 16384,
     .scattered = false,
     .limit = kProducts},
    {.name = "prefill attention 8192 contiguous",
     .sequences = 1,
     .rows = 8192,
     .tokens = 8192,
     .scattered = false,
     .limit = kProducts},
    {.name = "prefill attention 2048 contiguous",
     .sequences = 1,
     .rows = 2048,
     .tokens = 2048,
     .scattered = false,
     .limit = kProducts},
};

}  // namespace

Status bench_paged_attention(DeviceBench& bench) {
  for (const Sizes& sizes : kSizes) LS_TRY(time_attention(bench, sizes));
  return {};
}

}  // namespace lockstep
