// gated_norm against the copy roof: x and z read, out written. 32 heads of 128.
#include <benchmark/benchmark.h>

#include "base/clock.h"
#include "device/roofs.h"
#include "kernels/common/sequence_batch.h"
#include "kernels/gated_norm/gated_norm.h"

namespace lockstep {
namespace {

constexpr int kThreads = 2;

void norm(benchmark::State& state) {
  const Isa isa = static_cast<Isa>(state.range(0));
  const int64_t rows = state.range(1);
  if (isa > detect_cpu().best) return state.SkipWithError("not on this processor");
  std::mt19937 random(1);
  std::vector<float> x = testing::random_floats(static_cast<size_t>(rows * 32 * 128), random);
  std::vector<float> z = testing::random_floats(x.size(), random);
  std::vector<float> weight = testing::random_floats(128, random);
  std::vector<float> out(x.size());
  const LiveRows live(rows);
  const GatedNormArgs args{.x = view(x, {rows, 32, 128}),
                           .z = view(z, {rows, 32, 128}),
                           .weight = view(weight, {128}),
                           .out = view(out, {rows, 32, 128}),
                           .num_rows = &live};
  Stream stream(kThreads);
  double best = 1e9;
  for (auto _ : state) {
    const int64_t start = now_ns();
    benchmark::DoNotOptimize(gated_norm({kernel_table(isa), stream}, args, "bench").ok());
    best = std::min(best, seconds_since(start));
  }
  const double rate = 12.0 * static_cast<double>(x.size()) / best * 1e-9;
  const Result<Roofs> roofs = measure_roofs(stream, isa, 0.1);
  state.counters["GB/s"] = rate;
  state.counters["of_copy"] = roofs.ok() ? rate / roofs->copy_gb_per_s : 0;
  state.SetLabel(concat(name_of(isa), ", ", rows, " rows"));
}

BENCHMARK(norm)->ArgsProduct({{1, 2}, {1, 64, 4096}})->Unit(benchmark::kMicrosecond)->UseRealTime();

}  // namespace
}  // namespace lockstep
