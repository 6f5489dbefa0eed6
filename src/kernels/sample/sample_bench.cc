// Microseconds of one thread for one row of a full vocabulary, by what the row asks for.
#include <benchmark/benchmark.h>

#include "base/clock.h"
#include "kernels/sample/sample_problem.h"

namespace lockstep {
namespace {

using testing::SampleProblem;

enum Kind {
  kGreedy,
  kGreedyPenalised,
  kGreedyLogprobs,
  kTemperature,
  kTopK,
  kTopP,
  kTopKTopP,
  kMinP,
  kKinds
};
constexpr const char* kNames[kKinds] = {
    "greedy",   "greedy, penalties", "greedy, 20 logprobs",  "temperature 1",
    "top-k 20", "top-p 0.95",        "top-k 20, top-p 0.95", "min-p 0.05"};

void row(benchmark::State& state) {
  const Isa isa = static_cast<Isa>(state.range(0));
  const auto kind = static_cast<Kind>(state.range(1));
  if (isa > detect_cpu().best) return state.SkipWithError("not on this processor");
  SampleProblem problem(1, 151936, 20);
  std::mt19937 random(1);
  std::normal_distribution<float> normal;  // as wide as a language model's logits
  for (float& logit : problem.logits) logit = 3 * normal(random);
  problem.temperature[0] = kind >= kTemperature ? 1.0f : 0.0f;
  problem.top_k[0] = kind == kTopK || kind == kTopKTopP ? 20 : 0;
  problem.top_p[0] = kind == kTopP || kind == kTopKTopP ? 0.95f : 1.0f;
  problem.min_p[0] = kind == kMinP ? 0.05f : 0.0f;
  problem.penalty_slot[0] = kind == kGreedyPenalised ? 0 : -1;
  problem.repetition[0] = 1.1f;
  problem.logprobs[0] = kind == kGreedyLogprobs ? 20 : -1;
  Stream stream(1);
  std::vector<char> workspace;
  const SampleArgs args = problem.args(workspace, 1);
  double best = 1e9;
  for (auto _ : state) {
    ++problem.position[0];
    const int64_t start = now_ns();
    benchmark::DoNotOptimize(sample({kernel_table(isa), stream}, args, "bench").ok());
    best = std::min(best, seconds_since(start));
  }
  state.counters["best_us"] = best * 1e6;
  state.SetLabel(concat(name_of(isa), ", ", kNames[kind]));
}

BENCHMARK(row)
    ->ArgsProduct({{1, 2}, benchmark::CreateDenseRange(0, kKinds - 1, 1)})
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace lockstep
