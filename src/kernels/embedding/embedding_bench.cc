// embedding at the size of Qwen3-0.6B: a row of a panel touches one cache line per pair of columns.
//   kernels_bench --benchmark_filter=embedding
#include <benchmark/benchmark.h>

#include <cstring>
#include <random>
#include <vector>

#include "device/arena.h"
#include "kernels/embedding/embedding.h"
#include "kernels/linear/matmul_bench.h"
#include "kernels/table.h"

namespace lockstep {
namespace {

using namespace matmul_bench;  // NOLINT

// Arguments: rows, layout. Bytes are those of the cache lines touched.
void embedding_bench(benchmark::State& state) {
  constexpr int64_t kVocabulary = 151936, kWidth = 1024;
  const int64_t rows = state.range(0);
  const auto layout = static_cast<WeightLayout>(state.range(1));
  const CpuInfo cpu = detect_cpu();
  Stream stream(cpu.cpus);
  const PinnedCaller pinned;
  const Roofs& roof = roofs(stream);
  const int64_t elements = packed_elements(DType::kBF16, layout, kVocabulary, kWidth);
  Arena arena = Arena::create("table", elements * 2 + 4096).value();
  const TensorView memory = arena.allocate("table", DType::kBF16, {elements}).value();
  std::memset(memory.data, 0x3C, static_cast<size_t>(memory.bytes()));
  const PackedWeight table{
      .data = memory.data, .layout = layout, .n = kVocabulary, .k = kWidth, .expert_stride = elements};
  std::mt19937 random(1);
  std::vector<int32_t> ids(static_cast<size_t>(rows));
  std::vector<float> out(static_cast<size_t>(rows * kWidth));
  const LiveRows live(rows);
  const EmbeddingArgs args{
      .token_ids = view(ids, {rows}), .table = table, .out = view(out, {rows, kWidth}), .num_rows = &live};
  const double touched = layout == WeightLayout::kRowMajor ? kWidth * 2 : kWidth / 2 * 64;
  const Work work{
      .bytes = touched * static_cast<double>(rows), .flop = 0, .gflop_roof = roof.f32_gflop_per_s};
  report(state, work, roof, [&] {
    // Fresh tokens each time: drawing them takes a few nanoseconds a row.
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % kVocabulary);
    return embedding({kernel_table(cpu.best), stream}, args, "bench");
  });
}

BENCHMARK(embedding_bench)
    ->ArgNames({"T", "layout"})
    ->ArgsProduct({{1, 8, 512},
                   {static_cast<int64_t>(WeightLayout::kRowMajor),
                    static_cast<int64_t>(WeightLayout::kPanel32)}})
    ->UseManualTime();

}  // namespace
}  // namespace lockstep
