// How fast weights become ready: bytes of packed bf16 weights per second, files in the page cache.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <filesystem>
#include <vector>

#include "weights/safetensors_writer.h"
#include "weights/weight_loader.h"

namespace lockstep {
namespace {

constexpr int64_t kRows = 4096, kInputs = 4096, kMatrices = 8;  // 32 MiB each

WeightPlan plan_for(std::vector<PackedWeight>& matrices, WeightLayout layout) {
  matrices.resize(kMatrices);
  WeightPlan plan{.family = "bench"};
  for (size_t i = 0; i < matrices.size(); ++i) {
    const std::string name = concat("w", i);
    plan.matrices.push_back({.into = &matrices[i],
                             .name = name,
                             .k = kInputs,
                             .layout = layout,
                             .parts = {{.name = name, .rows = kRows}}});
  }
  return plan;
}

void report(benchmark::State& state, int64_t ranks = 1) {
  state.SetBytesProcessed(state.iterations() * kMatrices * kRows * kInputs / ranks * 2);
}

// Arguments: threads, layout.
void make_dummy(benchmark::State& state) {
  std::vector<PackedWeight> matrices;
  const WeightPlan plan = plan_for(matrices, static_cast<WeightLayout>(state.range(1)));
  const LoadOptions options{.threads = static_cast<int>(state.range(0))};
  for (auto _ : state) {
    if (!make_dummy_weights(plan, 1, options).ok()) state.SkipWithError("refused");
  }
  report(state);
}

// Arguments: threads, layout, ranks of which one loads its columns.
void load(benchmark::State& state) {
  const std::string path = (std::filesystem::temp_directory_path() / "lockstep-bench.safetensors").string();
  std::vector<uint16_t> values(kRows * kInputs, 0x3F80);  // bf16 ones
  SafetensorsWriter writer;
  for (int64_t i = 0; i < kMatrices; ++i) {
    const Status added =
        writer.add(concat("w", i), dense_view(values.data(), DType::kBF16, {kRows, kInputs}));
    if (!added.ok()) state.SkipWithError(added.message().c_str());
  }
  if (const Status status = writer.write(path); !status.ok()) state.SkipWithError(status.message().c_str());
  std::vector<PackedWeight> matrices;
  WeightPlan plan = plan_for(matrices, static_cast<WeightLayout>(state.range(1)));
  const int64_t ranks = state.range(2), columns = kInputs / ranks;
  for (MatrixTarget& matrix : plan.matrices) {
    matrix.k = columns;
    matrix.inputs = {.begin = columns * (ranks - 1), .whole = kInputs};
  }
  const LoadOptions options{.threads = static_cast<int>(state.range(0))};
  for (auto _ : state) {
    const Result<Checkpoint> checkpoint = Checkpoint::open(path);
    if (!checkpoint.ok() || !load_weights(plan, *checkpoint, options).ok()) state.SkipWithError("refused");
  }
  report(state, ranks);
  std::filesystem::remove(path);
}

BENCHMARK(make_dummy)->ArgsProduct({{1, 2}, {0, 1}})->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(load)->ArgsProduct({{1, 2}, {0, 1}, {1, 2, 8}})->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace lockstep
