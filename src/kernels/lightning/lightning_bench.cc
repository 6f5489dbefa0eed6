// lightning against the roofs: multiply-adds while prefilling, bytes of state while decoding.
#include <benchmark/benchmark.h>

#include "base/clock.h"
#include "device/roofs.h"
#include "kernels/lightning/lightning_problem.h"

namespace lockstep {
namespace {

using testing::LightningProblem;
using testing::LightningShape;
using testing::SequenceBatch;
using testing::SequenceSpec;

constexpr int kThreads = 2;
constexpr LightningShape kSala{.heads = 32, .key_heads = 32, .key_dim = 128, .value_dim = 128};

// Seconds of the fastest run, and the roofs of the instruction set in argument 0.
double fastest(benchmark::State& state, LightningProblem& problem, Roofs& roofs) {
  const Isa isa = static_cast<Isa>(state.range(0));
  state.SetLabel(std::string(name_of(isa)));
  double best = 1e9;
  if (isa > detect_cpu().best) {
    state.SkipWithError("not on this processor");
    return best;
  }
  Stream stream(kThreads);
  std::vector<char> workspace;
  const LightningArgs args = problem.args(workspace, kThreads);
  for (auto _ : state) {
    const int64_t start = now_ns();
    benchmark::DoNotOptimize(lightning({kernel_table(isa), stream}, args, "bench").ok());
    best = std::min(best, seconds_since(start));
  }
  if (Result<Roofs> measured = measure_roofs(stream, isa, 0.1); measured.ok()) roofs = *measured;
  return best;
}

// Per element of a state and row: a product, and two multiply-adds, which the peak counts as two operations
// each. 5/6 of the peak is the most that this form reaches.
void lightning_prefill(benchmark::State& state) {
  const auto rows = static_cast<int32_t>(state.range(1));
  LightningProblem problem(kSala, SequenceBatch({SequenceSpec{.rows = rows, .write_slots = {1}}}), 2, 1);
  Roofs roofs;
  const double seconds = fastest(state, problem, roofs);
  const double rate = 5.0 * rows * static_cast<double>(problem.slot_size()) / seconds * 1e-9;
  state.counters["GFLOP/s"] = rate;
  state.counters["of_peak"] = rate / roofs.f32_gflop_per_s;
}

// Sequences of one row each: 2 MiB of states a sequence, read and written once.
void lightning_decode(benchmark::State& state) {
  const auto seqs = static_cast<int32_t>(state.range(1));
  std::vector<SequenceSpec> specs;
  for (int32_t s = 1; s <= seqs; ++s) specs.push_back({.rows = 1, .read_slot = s, .write_slots = {s}});
  LightningProblem problem(kSala, SequenceBatch(specs), seqs + 1, 1);
  Roofs roofs;
  const double seconds = fastest(state, problem, roofs);
  const double rate = 2.0 * 4 * static_cast<double>(seqs * problem.slot_size()) / seconds * 1e-9;
  state.counters["GB/s"] = rate;
  state.counters["of_copy"] = rate / roofs.copy_gb_per_s;
}

BENCHMARK(lightning_prefill)->ArgsProduct({{1, 2}, {512}})->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(lightning_decode)->ArgsProduct({{1, 2}, {1, 64}})->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace lockstep
