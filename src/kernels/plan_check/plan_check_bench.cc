// What it costs to look at the plan on the device: an image of 12 KB in 45 ranges, and the structure of a
// step.
#include <benchmark/benchmark.h>

#include <vector>

#include "base/table_digest.h"
#include "kernels/table.h"

namespace lockstep {
namespace {

void BM_PlanDigest(benchmark::State& state) {
  const int64_t count = 45, bytes = 12 * 1024, each = bytes / count / 8 * 8;
  std::vector<unsigned char> image(static_cast<size_t>(bytes), 3);
  std::vector<int64_t> ranges;
  for (int64_t i = 0; i < count; ++i) {
    ranges.push_back(i * each);
    ranges.push_back(i + 1 < count ? each : bytes - i * each);
  }
  std::vector<uint64_t> out(static_cast<size_t>(count + 1));
  const Epoch epoch(1);
  Stream stream(2);
  const PlanDigestArgs args{.image = view(image, {bytes}),
                            .ranges = view(ranges, {count, 2}),
                            .out = view(out, {count + 1}),
                            .epoch = &epoch};
  for (auto _ : state) {
    benchmark::DoNotOptimize(plan_digest({kernel_table(Isa::kReference), stream}, args, "bench").ok());
  }
}
BENCHMARK(BM_PlanDigest);

// range(0) live sequences of one row, each with 64 pages, of which range(1) tables have their turn.
void BM_PlanStructure(benchmark::State& state) {
  const auto sequences = static_cast<int32_t>(state.range(0));
  const int64_t pages = 64;
  std::vector<int32_t> starts = {0}, lens, rows, table(static_cast<size_t>((sequences + 1) * pages), 1);
  std::vector<uint64_t> digests;
  Digest digest = 0;
  for (int32_t i = 0; i < pages; ++i) digest ^= table_entry_digest(i, PageId(1));
  for (int32_t s = 0; s < sequences; ++s) {
    starts.push_back(s + 1);
    lens.push_back(static_cast<int32_t>(pages) * 16);
    rows.push_back(s + 1);
    digests.push_back(digest);
  }
  std::vector<int64_t> out(4);
  const Epoch epoch(1);
  const LiveRows num_rows(sequences);
  const LiveSeqs num_seqs(sequences);
  Stream stream(2);
  const PlanStructureArgs args{.query_start_loc = view(starts, {sequences + 1}),
                               .seq_lens = view(lens, {sequences}),
                               .table_rows = view(rows, {sequences}),
                               .table_digests = view(digests, {sequences}),
                               .page_table = view(table, {sequences + 1, pages}),
                               .out = view(out, {4}),
                               .epoch = &epoch,
                               .num_rows = &num_rows,
                               .num_seqs = &num_seqs,
                               .page_tokens = 16,
                               .num_pages = 2,
                               .tables = static_cast<int32_t>(state.range(1))};
  for (auto _ : state) {
    benchmark::DoNotOptimize(plan_structure({kernel_table(Isa::kReference), stream}, args, "bench").ok());
  }
  if (out[0] != 0) state.SkipWithError("the plan is broken");
}
BENCHMARK(BM_PlanStructure)
    ->Args({8, 0})
    ->Args({8, 1})
    ->Args({8, 8})
    ->Args({256, 0})
    ->Args({256, 4})
    ->Args({256, 256});

}  // namespace
}  // namespace lockstep
