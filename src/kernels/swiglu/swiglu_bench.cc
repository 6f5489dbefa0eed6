// swiglu at the widths of Qwen3-0.6B, as a share of what reading and writing its rows costs at least.
//   kernels_bench --benchmark_filter=swiglu
#include <benchmark/benchmark.h>

#include <vector>

#include "kernels/linear/matmul_bench.h"
#include "kernels/swiglu/swiglu.h"
#include "kernels/table.h"

namespace lockstep {
namespace {

using namespace matmul_bench;  // NOLINT

// Argument: rows. Up to 512 rows, 19 MB, come from a cache, so the share of memory's rate can pass 1.
void swiglu_bench(benchmark::State& state) {
  constexpr int64_t kWidth = 3072;
  const int64_t rows = state.range(0);
  const CpuInfo cpu = detect_cpu();
  Stream stream(cpu.cpus);
  const PinnedCaller pinned;
  const Roofs& roof = roofs(stream);
  std::vector<float> gate_up(static_cast<size_t>(rows * 2 * kWidth), 0.5f),
      out(static_cast<size_t>(rows * kWidth));
  const LiveRows live(rows);
  const SwigluArgs args{
      .gate_up = view(gate_up, {rows, 2 * kWidth}), .out = view(out, {rows, kWidth}), .num_rows = &live};
  const double elements = static_cast<double>(rows * kWidth);
  // 23 operations per element: exp in 18, then sum, division, product and sign.
  const Work work{.bytes = elements * 12, .flop = elements * 23, .gflop_roof = roof.f32_gflop_per_s};
  report(state, work, roof, [&] { return swiglu({kernel_table(cpu.best), stream}, args, "bench"); });
}

BENCHMARK(swiglu_bench)->ArgName("T")->Arg(1)->Arg(8)->Arg(512)->Arg(4096)->UseManualTime();

}  // namespace
}  // namespace lockstep
