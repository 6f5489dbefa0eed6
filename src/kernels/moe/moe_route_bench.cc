// moe_route over MiniMax-M2's 256 experts, 8 of them chosen, by softmax and by sigmoid with a bias: logits
// per second, and the share of the f32 roof that the sigmoid's arithmetic is (26 operations in double, at
// half the roof's rate, for each logit).
//   kernels_bench --benchmark_filter=route
#include <benchmark/benchmark.h>

#include "base/clock.h"
#include "device/roofs.h"
#include "kernels/common/test_support.h"
#include "kernels/moe/moe.h"

namespace lockstep {
namespace {

constexpr int kThreads = 2;
constexpr int64_t kExperts = 256, kChoices = 8;

void route(benchmark::State& state) {
  const Isa isa = static_cast<Isa>(state.range(0));
  const auto scoring = static_cast<MoeScoring>(state.range(1));
  const int64_t rows = state.range(2);
  if (isa > detect_cpu().best) return state.SkipWithError("not on this processor");
  std::mt19937 random(1);
  std::vector<float> logits = testing::random_floats(static_cast<size_t>(rows * kExperts), random, 4.0f);
  std::vector<float> bias = testing::random_floats(kExperts, random, 0.1f);
  std::vector<float> weights(static_cast<size_t>(rows * kChoices));
  std::vector<int32_t> ids(weights.size());
  const LiveRows live(rows);
  MoeRouteArgs args{.logits = view(logits, {rows, kExperts}),
                    .expert_ids = view(ids, {rows, kChoices}),
                    .expert_weights = view(weights, {rows, kChoices}),
                    .num_rows = &live,
                    .scoring = scoring};
  if (scoring == MoeScoring::kSigmoid) args.bias = view(bias, {kExperts});
  Stream stream(kThreads);
  double best = 1e9;
  for (auto _ : state) {
    const int64_t start = now_ns();
    benchmark::DoNotOptimize(moe_route({kernel_table(isa), stream}, args, "bench").ok());
    best = std::min(best, seconds_since(start));
  }
  const double rate = static_cast<double>(logits.size()) / best * 1e-9;
  const Result<Roofs> roofs = measure_roofs(stream, isa, 0.1);
  state.counters["Glogits/s"] = rate;
  state.counters["of_f32"] = roofs.ok() ? rate * 52 / roofs->f32_gflop_per_s : 0;
  state.SetLabel(
      concat(name_of(isa), scoring == MoeScoring::kSigmoid ? ", sigmoid, " : ", softmax, ", rows, " rows"));
}

BENCHMARK(route)->ArgsProduct({{1, 2}, {0, 1}, {1, 64, 1024}})->Unit(benchmark::kMicrosecond)->UseRealTime();

}  // namespace
}  // namespace lockstep
