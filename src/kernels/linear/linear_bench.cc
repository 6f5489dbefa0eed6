// linear at the sizes of Qwen3-0.6B, as a share of what this machine's memory or arithmetic could do.
//   kernels_bench --benchmark_filter=linear
#include <benchmark/benchmark.h>

#include <cstring>
#include <vector>

#include "device/arena.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/matmul_bench.h"
#include "kernels/table.h"

namespace lockstep {
namespace {

using namespace matmul_bench;  // NOLINT

constexpr int64_t kColdBytes = int64_t{256} << 20;  // more than any cache holds

// Copies of one weight, so that each call reads weights that no cache holds, as a step does.
struct ColdWeights {
  Arena arena;
  std::vector<PackedWeight> copies;

  static ColdWeights make(int64_t n, int64_t k, DType dtype) {
    const int64_t elements = packed_elements(dtype, WeightLayout::kPanel32, n, k);
    const int64_t bytes = elements * size_of(dtype);
    const int64_t count = kColdBytes / bytes + 1;
    ColdWeights weights{.arena = Arena::create("weights", count * (bytes + 64)).value(), .copies = {}};
    for (int64_t i = 0; i < count; ++i) {
      const TensorView view = weights.arena.allocate("weight", dtype, {elements}).value();
      std::memset(view.data, 0x3C, static_cast<size_t>(bytes));  // 0x3C3C: small finite numbers in every type
      weights.copies.push_back({.data = view.data,
                                .dtype = dtype,
                                .layout = WeightLayout::kPanel32,
                                .n = n,
                                .k = k,
                                .expert_stride = elements});
    }
    return weights;
  }
};

// Arguments: rows, inputs, outputs. Weights bf16.
void linear_bench(benchmark::State& state, MatmulInput input) {
  const int64_t rows = state.range(0), k = state.range(1), n = state.range(2);
  const CpuInfo cpu = detect_cpu();
  Stream stream(cpu.cpus);
  const PinnedCaller pinned;
  const KernelTable& table = kernel_table(cpu.best);
  const Roofs& roof = roofs(stream);
  const ColdWeights weights = ColdWeights::make(n, k, DType::kBF16);
  std::vector<float> x(static_cast<size_t>(rows * k), 0.5f), out(static_cast<size_t>(rows * n));
  std::vector<uint8_t> workspace(static_cast<size_t>(linear_workspace_bytes(rows, k)));
  const LiveRows live(rows);
  LinearArgs args{.x = view(x, {rows, k}),
                  .weight = {},
                  .out = view(out, {rows, n}),
                  .workspace = view(workspace, {static_cast<int64_t>(workspace.size())}),
                  .num_rows = &live,
                  .input = input};
  size_t turn = 0;
  const Work work{.bytes = static_cast<double>(n * k * 2),
                  .flop = static_cast<double>(2 * rows * n * k),
                  .gflop_roof = input == MatmulInput::kBF16 ? roof.bf16_gflop_per_s : roof.f32_gflop_per_s};
  report(state, work, roof, [&] {
    args.weight = weights.copies[turn++ % weights.copies.size()];
    return linear({table, stream}, args, "bench");
  });
}

void sizes(benchmark::internal::Benchmark* bench) {
  const int64_t shapes[][2] = {{1024, 4096}, {2048, 1024}, {1024, 6144}, {3072, 1024}};
  for (const int64_t rows : {1, 2, 4, 8, 64, 512}) {
    for (const auto& shape : shapes) bench->Args({rows, shape[0], shape[1]});
  }
  for (const int64_t rows : {1, 4, 8}) bench->Args({rows, 1024, 151936});
  bench->ArgNames({"T", "K", "N"})->UseManualTime();
}

BENCHMARK_CAPTURE(linear_bench, bf16, MatmulInput::kBF16)->Apply(sizes);
BENCHMARK_CAPTURE(linear_bench, f32, MatmulInput::kF32)->Apply(sizes);

}  // namespace
}  // namespace lockstep
