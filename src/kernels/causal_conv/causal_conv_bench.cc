// causal_conv against the copy roof: what it reads and writes, once each. 8192 channels, window 4.
#include <benchmark/benchmark.h>

#include "base/clock.h"
#include "device/roofs.h"
#include "kernels/causal_conv/causal_conv.h"
#include "kernels/common/sequence_batch.h"

namespace lockstep {
namespace {

constexpr int kThreads = 2;
constexpr int64_t kChannels = 8192, kWindow = 4;

void convolve(benchmark::State& state) {
  const Isa isa = static_cast<Isa>(state.range(0));
  const auto seqs = static_cast<int32_t>(state.range(1)), rows = static_cast<int32_t>(state.range(2));
  if (isa > detect_cpu().best) return state.SkipWithError("not on this processor");
  std::vector<testing::SequenceSpec> specs;
  for (int32_t s = 1; s <= seqs; ++s) specs.push_back({.rows = rows, .read_slot = s, .write_slots = {s}});
  testing::SequenceBatch batch(specs);
  std::mt19937 random(1);
  std::vector<float> x = testing::random_floats(static_cast<size_t>(batch.rows() * kChannels), random);
  std::vector<float> weight = testing::random_floats(kChannels * kWindow, random);
  std::vector<float> states(static_cast<size_t>((seqs + 1) * kChannels * (kWindow - 1)));
  std::vector<float> out(x.size());
  const CausalConvArgs args{.x = view(x, {batch.rows(), kChannels}),
                            .weight = view(weight, {kChannels, kWindow}),
                            .state = view(states, {seqs + 1, kChannels, kWindow - 1}),
                            .query_start_loc = view(batch.query_start_loc, {batch.seqs() + 1}),
                            .state_read_slot = view(batch.read_slots, {batch.seqs()}),
                            .state_write_slots = view(batch.write_slots, {batch.rows()}),
                            .has_initial_state = view(batch.has_state, {batch.seqs()}),
                            .out = view(out, {batch.rows(), kChannels}),
                            .num_rows = &batch.num_rows,
                            .num_seqs = &batch.num_seqs};
  Stream stream(kThreads);
  double best = 1e9;
  for (auto _ : state) {
    const int64_t start = now_ns();
    benchmark::DoNotOptimize(causal_conv({kernel_table(isa), stream}, args, "bench").ok());
    best = std::min(best, seconds_since(start));
  }
  const double bytes = 4.0 * static_cast<double>(2 * x.size() + 2 * states.size());
  const Result<Roofs> roofs = measure_roofs(stream, isa, 0.1);
  state.counters["GB/s"] = bytes / best * 1e-9;
  state.counters["of_copy"] = roofs.ok() ? bytes / best * 1e-9 / roofs->copy_gb_per_s : 0;
  state.SetLabel(concat(name_of(isa), ", ", seqs, " sequences of ", rows, " rows"));
}

BENCHMARK(convolve)
    ->ArgsProduct({{1, 2}, {1}, {512}})
    ->ArgsProduct({{1, 2}, {64}, {1}})
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime();

}  // namespace
}  // namespace lockstep
