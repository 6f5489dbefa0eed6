#include "engine/guard_cost.h"

#include <algorithm>
#include <random>

#include "base/clock.h"

namespace lockstep {
namespace {

constexpr int32_t kPrompt = 8;
constexpr int64_t kPatience = 10000;  // steps without a replay
constexpr int kResamples = 1000;

double median_of(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<int64_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double ratio_of(const std::vector<double>& of, const std::vector<double>& to,
                const std::vector<size_t>& picked) {
  std::vector<double> a, b;
  for (const size_t i : picked) {
    a.push_back(of[i]);
    b.push_back(to[i]);
  }
  return median_of(a) / median_of(b);
}

Result<std::vector<uint64_t>> add_requests(Engine& engine, const GuardCostOptions& options,
                                           std::mt19937_64& random) {
  std::vector<uint64_t> ids;
  const auto vocab = static_cast<uint64_t>(engine.model().spec.vocab);
  for (int32_t b = 0; b < options.batch; ++b) {
    Request request{.max_tokens = options.longest - kPrompt, .temperature = 0, .ignore_eos = true};
    for (int32_t i = 0; i < kPrompt; ++i)
      request.prompt_ids.push_back(static_cast<int32_t>(1 + random() % (vocab - 1)));
    ids.push_back(LS_TRY(engine.add(request)));
  }
  return ids;
}

}  // namespace

Result<LevelRatio> guard_cost(Engine& engine, const GuardCostOptions& options) {
  if (options.longest <= kPrompt)
    return error(Code::kInvalidArgument, "bench: levels are compared with sequences of ", options.longest,
                 " tokens; expected more than ", kPrompt, "; raise --max-model-len or --num-pages");
  StepRunner& runner = engine.executor().runner();
  const GuardLevel before = runner.level();
  LevelRatio result{.batch = options.batch};
  std::mt19937_64 random(options.seed + 1);
  std::vector<double> of, to;
  Progress progress(concat("levels alternating, batch ", options.batch, ", steps"), options.steps,
                    ProgressUnit::kItems, options.progress);
  std::vector<uint64_t> ids;
  int64_t eager = 0;
  bool first = false;
  while (static_cast<int64_t>(of.size() + to.size()) < options.steps) {
    if (!engine.has_work()) ids = LS_TRY(add_requests(engine, options, random));
    first = !first;
    runner.set_level(first ? result.to : result.of);
    const int64_t start = now_ns();
    const std::vector<RequestOutput> outputs = engine.step();
    const int64_t ns = now_ns() - start;
    for (const RequestOutput& output : outputs) {
      if (output.finish == FinishReason::kError) return error(Code::kInternal, output.error);
    }
    if (!runner.last().replayed) {
      if (++eager > kPatience)
        return error(Code::kInternal, "bench: no step of ", options.batch,
                     " sequences is replayed: ", runner.last().eager_reason);
      continue;
    }
    eager = 0;
    // Of the step that has ended; where steps overlap it began in the call before.
    (runner.last().level == result.to ? to : of).push_back(static_cast<double>(ns) * 1e-3);
    progress.advance(1);
  }
  for (const uint64_t id : ids) engine.cancel(id);
  runner.set_level(before);
  const size_t pairs = std::min(of.size(), to.size());
  std::vector<size_t> picked(pairs);
  for (size_t i = 0; i < pairs; ++i) picked[i] = i;
  result.ratio = ratio_of(of, to, picked);
  std::vector<double> ratios;
  for (int r = 0; r < kResamples; ++r) {
    for (size_t& i : picked) i = random() % pairs;
    ratios.push_back(ratio_of(of, to, picked));
  }
  std::sort(ratios.begin(), ratios.end());
  result.low = ratios[kResamples / 40];
  result.high = ratios[kResamples - 1 - kResamples / 40];
  result.steps = static_cast<int64_t>(of.size() + to.size());
  result.of_us = median_of(of);
  result.to_us = median_of(to);
  return result;
}

}  // namespace lockstep
