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

// Adds zeros of a tensor's size; `memory` holds the bytes of the largest.
Status add_zeros(SafetensorsWriter& writer, std::vector<char>& memory, const std::string& name, DType dtype,
                 const Shape& shape) {
  const auto bytes = static_cast<size_t>(shape.elements() * size_of(dtype));
  LS_CHECK(bytes <= memory.size(), name, " has ", bytes, " bytes");
  return writer.add(name, dense_view(memory.data(), dtype, shape));
}

// The tensors of one matrix of codes, all zero.
Status add_codes(SafetensorsWriter& writer, std::vector<char>& memory, const std::string& name,
                 const Quantisation& by) {
  if (by.method == QuantMethod::kFp8) {
    LS_TRY(add_zeros(writer, memory, name, DType::kF8E4M3, {kRows, kInputs}));
    return add_zeros(writer, memory, name + "_scale_inv", DType::kF32, {kRows / 128, kInputs / 128});
  }
  const bool awq = by.method == QuantMethod::kAwq;
  const Shape words = awq ? Shape{kInputs, kRows / 8} : Shape{kInputs / 8, kRows};
  LS_TRY(add_zeros(writer, memory, name + ".qweight", DType::kI32, words));
  LS_TRY(add_zeros(writer, memory, name + ".qzeros", DType::kI32, {kInputs / 128, kRows / 8}));
  return add_zeros(writer, memory, name + ".scales", DType::kF16, {kInputs / 128, kRows});
}

// Arguments: threads, quantisation method, ranks of which one loads its rows.
void load_codes(benchmark::State& state) {
  const std::string path = (std::filesystem::temp_directory_path() / "lockstep-codes.safetensors").string();
  const Quantisation by{.method = static_cast<QuantMethod>(state.range(1))};
  std::vector<char> memory(kRows * kInputs);
  SafetensorsWriter writer;
  for (int64_t i = 0; i < kMatrices; ++i) {
    const Status added = add_codes(writer, memory, concat("w", i), by);
    if (!added.ok()) state.SkipWithError(added.message().c_str());
  }
  if (const Status status = writer.write(path); !status.ok()) state.SkipWithError(status.message().c_str());
  std::vector<PackedWeight> matrices;
  WeightPlan plan = plan_for(matrices, WeightLayout::kPanel32);
  plan.quantisation = by;
  const int64_t ranks = state.range(2), rows = kRows / ranks;
  for (MatrixTarget& matrix : plan.matrices) matrix.parts[0].order = {{rows * (ranks - 1), rows}};
  const LoadOptions options{.threads = static_cast<int>(state.range(0))};
  for (auto _ : state) {
    const Result<Checkpoint> checkpoint = Checkpoint::open(path);
    if (!checkpoint.ok() || !load_weights(plan, *checkpoint, options).ok()) state.SkipWithError("refused");
  }
  report(state, ranks);
  state.SetLabel(by.text());
  std::filesystem::remove(path);
}

BENCHMARK(make_dummy)->ArgsProduct({{1, 2}, {0, 1}})->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(load)->ArgsProduct({{1, 2}, {0, 1}, {1, 2, 8}})->Unit(benchmark::kMillisecond)->UseRealTime();

BENCHMARK(load_codes)->ArgsProduct({{1, 2}, {1, 2, 3}, {1, 8}})->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace lockstep
