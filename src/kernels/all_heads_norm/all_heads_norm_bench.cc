// head_squares and all_heads_norm of MiniMax-M2's queries, 48 heads of 128, against the copy roof: the heads
// read twice and written once.
//   kernels_bench --benchmark_filter=all_heads
#include <benchmark/benchmark.h>

#include "base/clock.h"
#include "device/roofs.h"
#include "kernels/all_heads_norm/all_heads_norm.h"
#include "kernels/common/test_support.h"

namespace lockstep {
namespace {

constexpr int kThreads = 2;
constexpr int64_t kHeads = 48, kSize = 128;

void all_heads(benchmark::State& state) {
  const Isa isa = static_cast<Isa>(state.range(0));
  const int64_t rows = state.range(1);
  if (isa > detect_cpu().best) return state.SkipWithError("not on this processor");
  std::mt19937 random(1);
  std::vector<float> x = testing::random_floats(static_cast<size_t>(rows * kHeads * kSize), random);
  std::vector<float> weight = testing::random_floats(kHeads * kSize, random);
  std::vector<float> squares(static_cast<size_t>(rows)), out(x.size());
  const LiveRows live(rows);
  const TensorView heads = view(x, {rows, kHeads, kSize});
  const HeadSquaresArgs sum{
      .x = heads, .out = view(squares, {rows, 1}), .num_rows = &live, .counted_heads = kHeads};
  const AllHeadsNormArgs norm{.x = heads,
                              .weight = view(weight, {kHeads, kSize}),
                              .squares = view(squares, {rows, 1}),
                              .out = view(out, {rows, kHeads, kSize}),
                              .num_rows = &live,
                              .width = kHeads * kSize};
  Stream stream(kThreads);
  const Launcher on{kernel_table(isa), stream};
  double best = 1e9;
  for (auto _ : state) {
    const int64_t start = now_ns();
    benchmark::DoNotOptimize(head_squares(on, sum, "bench").ok());
    benchmark::DoNotOptimize(all_heads_norm(on, norm, "bench").ok());
    best = std::min(best, seconds_since(start));
  }
  const double rate = 12.0 * static_cast<double>(x.size()) / best * 1e-9;
  const Result<Roofs> roofs = measure_roofs(stream, isa, 0.1);
  state.counters["GB/s"] = rate;
  state.counters["of_copy"] = roofs.ok() ? rate / roofs->copy_gb_per_s : 0;
  state.SetLabel(concat(name_of(isa), ", ", rows, " rows"));
}

BENCHMARK(all_heads)->ArgsProduct({{1, 2}, {1, 64, 2048}})->Unit(benchmark::kMicrosecond)->UseRealTime();

}  // namespace
}  // namespace lockstep
