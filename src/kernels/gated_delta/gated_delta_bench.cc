// gated_delta against the roofs: multiply-adds while prefilling, bytes of state while decoding.
#include <benchmark/benchmark.h>

#include "base/clock.h"
#include "device/roofs.h"
#include "kernels/gated_delta/delta_problem.h"

namespace lockstep {
namespace {

using testing::DeltaProblem;
using testing::DeltaShape;
using testing::SequenceBatch;
using testing::SequenceSpec;

constexpr int kThreads = 2;

Isa isa_of(benchmark::State& state) {
  const Isa isa = static_cast<Isa>(state.range(0));
  state.SetLabel(std::string(name_of(isa)));
  if (isa > detect_cpu().best) state.SkipWithError("not on this processor");
  return isa;
}

Roofs roofs_of(Stream& stream, Isa isa) {
  Result<Roofs> roofs = measure_roofs(stream, isa, 0.1);
  return roofs.ok() ? *roofs : Roofs{};
}

// Multiply-adds of the chunked form per row and value head, two operations each: K S, Q S and K V' over the
// whole state, and the two triangles of scores and the two of their products with V'.
double prefill_operations(int64_t rows, const DeltaShape& shape) {
  const auto dk = static_cast<double>(shape.key_dim), dv = static_cast<double>(shape.value_dim);
  const double per_row = 2 * (3 * dk * dv + 2 * 32 * dk + 2 * 32 * dv);
  return per_row * static_cast<double>(rows * shape.value_heads);
}

void prefill(benchmark::State& state) {
  const Isa isa = isa_of(state);
  const auto rows = static_cast<int32_t>(state.range(1));
  const DeltaShape shape{16, 32, 128, 128};
  DeltaProblem problem(shape, SequenceBatch({SequenceSpec{.rows = rows, .write_slots = {1}}}), 2, 1);
  Stream stream(kThreads);
  std::vector<char> workspace;
  const GatedDeltaArgs args = problem.args(workspace, kThreads);
  double best = 1e9;
  for (auto _ : state) {
    const int64_t start = now_ns();
    benchmark::DoNotOptimize(gated_delta({kernel_table(isa), stream}, args, "bench").ok());
    best = std::min(best, seconds_since(start));
  }
  const double rate = prefill_operations(rows, shape) / best * 1e-9;
  state.counters["GFLOP/s"] = rate;
  state.counters["of_peak"] = rate / roofs_of(stream, isa).f32_gflop_per_s;
}

// 64 sequences of one row each: 64 MiB of states by 2 MiB, read and written once.
void decode(benchmark::State& state) {
  const Isa isa = isa_of(state);
  const auto seqs = static_cast<int32_t>(state.range(1));
  const DeltaShape shape{16, 32, 128, 128};
  std::vector<SequenceSpec> specs;
  for (int32_t s = 1; s <= seqs; ++s) specs.push_back({.rows = 1, .read_slot = s, .write_slots = {s}});
  DeltaProblem problem(shape, SequenceBatch(specs), seqs + 1, 1);
  Stream stream(kThreads);
  std::vector<char> workspace;
  const GatedDeltaArgs args = problem.args(workspace, kThreads);
  double best = 1e9;
  for (auto _ : state) {
    const int64_t start = now_ns();
    benchmark::DoNotOptimize(gated_delta({kernel_table(isa), stream}, args, "bench").ok());
    best = std::min(best, seconds_since(start));
  }
  const double rate = 2.0 * 4 * static_cast<double>(seqs * problem.slot_size()) / best * 1e-9;
  state.counters["GB/s"] = rate;
  state.counters["of_copy"] = rate / roofs_of(stream, isa).copy_gb_per_s;
}

BENCHMARK(prefill)->ArgsProduct({{1, 2}, {512}})->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(decode)->ArgsProduct({{1, 2}, {1, 64}})->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace lockstep
