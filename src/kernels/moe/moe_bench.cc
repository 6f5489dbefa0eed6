// moe_experts at the size of Qwen3-30B-A3B, as a share of what this machine's memory or arithmetic could do.
//   kernels_bench --benchmark_filter=moe
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "device/arena.h"
#include "kernels/linear/matmul_bench.h"
#include "kernels/moe/moe.h"
#include "kernels/table.h"

namespace lockstep {
namespace {

using namespace matmul_bench;  // NOLINT

constexpr int64_t kWidth = 2048, kExpertWidth = 768, kExperts = 128, kChoices = 8;
constexpr size_t kPlans = 64;  // lists of choices that calls take in turn, so that experts are cold

PackedWeight filled(Arena& arena, int64_t n, int64_t k) {
  const int64_t elements = packed_elements(DType::kBF16, WeightLayout::kPanel32, n, k);
  const TensorView memory = arena.allocate("experts", DType::kBF16, {kExperts * elements}).value();
  std::memset(memory.data, 0x3C, static_cast<size_t>(memory.bytes()));  // 0x3C3C: a small number
  return {.data = memory.data,
          .dtype = DType::kBF16,
          .layout = WeightLayout::kPanel32,
          .experts = kExperts,
          .n = n,
          .k = k,
          .expert_stride = elements};
}

std::vector<int32_t> choose(int64_t rows, std::mt19937& random) {
  std::vector<int32_t> ids, all(static_cast<size_t>(kExperts));
  for (size_t x = 0; x < all.size(); ++x) all[x] = static_cast<int32_t>(x);
  for (int64_t t = 0; t < rows; ++t) {
    std::shuffle(all.begin(), all.end(), random);
    ids.insert(ids.end(), all.begin(), all.begin() + kChoices);
  }
  return ids;
}

int64_t distinct(std::vector<int32_t> ids) {
  std::sort(ids.begin(), ids.end());
  return std::unique(ids.begin(), ids.end()) - ids.begin();
}

// Argument: rows. Weights bf16; bytes are those of the experts that a call chooses, on average.
void moe_bench(benchmark::State& state) {
  const int64_t rows = state.range(0);
  const CpuInfo cpu = detect_cpu();
  Stream stream(cpu.cpus);
  const PinnedCaller pinned;
  const Roofs& roof = roofs(stream);
  constexpr int64_t kExpertBytes = 3 * kWidth * kExpertWidth * 2;
  Arena arena = Arena::create("experts", kExperts * kExpertBytes + 4096).value();
  const PackedWeight gate_up = filled(arena, 2 * kExpertWidth, kWidth),
                     down = filled(arena, kWidth, kExpertWidth);
  std::mt19937 random(1);
  std::vector<std::vector<int32_t>> plans;
  double experts = 0;
  for (size_t i = 0; i < kPlans; ++i) {
    plans.push_back(choose(rows, random));
    experts += static_cast<double>(distinct(plans.back())) / kPlans;
  }
  std::vector<float> x(static_cast<size_t>(rows * kWidth), 0.5f), out(x.size());
  std::vector<float> weights(static_cast<size_t>(rows * kChoices), 0.125f);
  const int64_t bytes = moe_workspace_bytes(rows, kChoices, kExperts, kWidth, kExpertWidth);
  std::vector<uint8_t> workspace(static_cast<size_t>(bytes));
  const LiveRows live(rows);
  MoeExpertsArgs args{.x = view(x, {rows, kWidth}),
                      .gate_up = gate_up,
                      .down = down,
                      .expert_ids = {},
                      .expert_weights = view(weights, {rows, kChoices}),
                      .out = view(out, {rows, kWidth}),
                      .workspace = view(workspace, {bytes}),
                      .num_rows = &live,
                      .input = MatmulInput::kBF16};
  const Work work{.bytes = experts * static_cast<double>(kExpertBytes),
                  .flop = static_cast<double>(rows * kChoices * 6 * kWidth * kExpertWidth),
                  .gflop_roof = roof.bf16_gflop_per_s};
  size_t turn = 0;
  report(state, work, roof, [&] {
    args.expert_ids = view(plans[turn++ % kPlans], {rows, kChoices});
    return moe_experts({kernel_table(cpu.best), stream}, args, "bench");
  });
}

BENCHMARK(moe_bench)->ArgName("T")->Arg(1)->Arg(2)->Arg(4)->Arg(8)->Arg(64)->Arg(512)->UseManualTime();

}  // namespace
}  // namespace lockstep
