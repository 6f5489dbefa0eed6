#include "engine/bench.h"

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "base/math.h"

namespace lockstep {
namespace {

constexpr int32_t kMaxChunk = 2048;
constexpr int32_t kMaxTokens = 1 << 24;
constexpr int32_t kMaxBatch = 1 << 16;

int32_t prompt_len(const BenchTest& test) {
  return test.kind == BenchTest::Kind::kPrefill ? test.depth + test.tokens : std::max(test.depth, 1);
}

// Steps in which some sequences may draw while others still read their prompts.
int32_t ragged_steps(const BenchTest& test, int32_t chunk_size) {
  return test.batch * ceil_div(prompt_len(test), chunk_size);
}

// Tokens that each request asks for. The last one drawn is never read back.
int32_t drawn_tokens(const BenchTest& test, int32_t chunk_size) {
  return test.kind == BenchTest::Kind::kPrefill ? 1 : test.tokens + 1 + ragged_steps(test, chunk_size);
}

Status check_number(std::string_view flag, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return {};
  return error(Code::kInvalidArgument, "bench: ", flag, " is ", value, "; expected ", low, "..", high);
}

Status check_test(const BenchTest& test) {
  const bool prefill = test.kind == BenchTest::Kind::kPrefill;
  LS_TRY(check_number(prefill ? "--pp" : "--tg", test.tokens, 1, kMaxTokens));
  LS_TRY(check_number("--batch", test.batch, 1, kMaxBatch));
  return check_number("--depth", test.depth, 0, kMaxTokens);
}

// What one repetition measured.
struct Repetition {
  int64_t steps = 0;
  int64_t rows = 0;
  double seconds = 0;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double deviation(const std::vector<double>& values) {
  if (values.size() < 2) return 0;
  double mean = 0, squares = 0;
  for (const double value : values) mean += value / static_cast<double>(values.size());
  for (const double value : values) squares += (value - mean) * (value - mean);
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

// Adds `costs` to `sums`, op by op.
void add_costs(const std::vector<OpCost>& costs, std::vector<OpCost>& sums) {
  for (const OpCost& cost : costs) {
    const auto same = std::find_if(sums.begin(), sums.end(), [&cost](const OpCost& sum) {
      return sum.op == cost.op && sum.stage == cost.stage;
    });
    if (same == sums.end()) {
      sums.push_back(cost);
      continue;
    }
    same->read += cost.read;
    same->written += cost.written;
    same->flop += cost.flop;
  }
}

// Runs one test again and again on one engine.
class TestRun {
 public:
  TestRun(Engine& engine, const BenchTest& test, Progress& progress)
      : engine_(engine), test_(test), progress_(progress) {}

  // Random tokens, never 0: rows of zeros or a page of one token flatter every cache.
  Status add_requests(uint64_t& seed) {
    const auto vocab = static_cast<uint64_t>(engine_.model().spec.vocab);
    for (int32_t b = 0; b < test_.batch; ++b) {
      Request request;
      for (int32_t i = 0; i < prompt_len(test_); ++i) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;  // Knuth, MMIX
        request.prompt_ids.push_back(static_cast<int32_t>(1 + (seed >> 33) % (vocab - 1)));
      }
      request.max_tokens = drawn_tokens(test_, engine_.config().chunk_size);
      request.temperature = 0;
      request.ignore_eos = true;
      ids_.push_back(LS_TRY(engine_.add(request)));
    }
    return {};
  }

  Result<Repetition> repeat(Profiler* profiler) {
    Repetition rep;
    while (engine_.has_work() && rep.rows < int64_t{test_.batch} * test_.tokens) {
      if (profiler != nullptr) profiler->begin_step();
      const int64_t start = now_ns();
      const std::vector<RequestOutput> outputs = engine_.step();
      const int64_t ns = now_ns() - start;
      for (const RequestOutput& output : outputs) {
        if (output.finish == FinishReason::kError) return error(Code::kInternal, output.error);
      }
      const StepShape shape = shape_of(engine_.last_plan());
      progress_.advance(shape.rows());
      if (!counts(shape)) {
        // The device's time counts from here on: each step that is counted hands one to it, itself or the one
        // behind.
        LS_TRY(engine_.executor().stream().busy_us());
        continue;
      }
      ++rep.steps;
      rep.rows += shape.rows();
      rep.seconds += static_cast<double>(ns) * 1e-9;
      add_costs(step_costs(engine_.model(), shape), costs_);
      if (profiler != nullptr) profiler->keep_step(ns);
    }
    if (timed_) LS_TRY(take_device_time());
    for (const uint64_t id : ids_) engine_.cancel(id);
    ids_.clear();
    if (rep.rows == int64_t{test_.batch} * test_.tokens) return rep;
    return error(Code::kInvalidArgument, "bench: ", test_.name(), " with batch ", test_.batch, " and depth ",
                 test_.depth, " never had all sequences in one step; raise --max-num-batched-tokens above ",
                 engine_.config().chunk_size + test_.batch, " or leave the sizes to bench");
  }

  // A repetition in which the device's time is taken too.
  Status time_device(BenchResult& result) {
    Stream& stream = engine_.executor().stream();
    stream.set_timed(timed_ = true);
    const Result<Repetition> rep = repeat(nullptr);
    stream.set_timed(timed_ = false);
    LS_TRY(stream.busy_us());
    if (!rep.ok()) return rep.status();
    const auto steps = static_cast<double>(rep->steps);
    result.device_us = busy_us_ / steps;
    result.idle_us = (span_us_ - busy_us_) / std::max(1.0, steps - 1);
    return {};
  }

  // Of all that was handed to the device since the last step that does not count.
  Status take_device_time() {
    Stream& stream = engine_.executor().stream();
    const int64_t end = LS_TRY(stream.queue()->tick());
    span_us_ = LS_TRY(stream.queue()->us_between(0, end));
    busy_us_ = LS_TRY(stream.busy_us());
    return {};
  }

  std::vector<OpCost> take_costs() { return std::exchange(costs_, {}); }

 private:
  // Whether a step is a part of the test: all rows beyond the depth, and in decode all sequences at once.
  bool counts(const StepShape& shape) const {
    const bool decode = test_.kind == BenchTest::Kind::kDecode;
    const int32_t first = decode ? prompt_len(test_) : test_.depth;
    if (decode && shape.sequences.size() != static_cast<size_t>(test_.batch)) return false;
    return std::all_of(shape.sequences.begin(), shape.sequences.end(),
                       [first](const SequenceShape& s) { return s.length - s.rows >= first; });
  }

  Engine& engine_;
  const BenchTest& test_;
  Progress& progress_;
  std::vector<uint64_t> ids_;
  std::vector<OpCost> costs_;
  bool timed_ = false;
  double busy_us_ = 0;  // of the device, at its pieces of work
  double span_us_ = 0;  // from the beginning of the first to the end of the last
};

// Divides what was added up by the number of steps.
void divide(std::vector<OpCost>& costs, double steps) {
  for (OpCost& cost : costs) {
    cost.read /= steps;
    cost.written /= steps;
    cost.flop /= steps;
  }
}

// Holds a result against the roofs; `costs` are those of its mean step.
void compare(const Model& model, const std::vector<OpCost>& costs, const Roofs& roofs, BenchResult& result) {
  double weights = 0;
  for (const OpCost& cost : costs) {
    result.bytes += cost.read + cost.written;
    result.flop += cost.flop;
    weights += cost.weights ? cost.read : 0;
  }
  const double seconds = result.step_us * 1e-6;
  const RoofTime roof = roof_time(costs, roofs);
  result.roof = roof.binds();
  result.roof_share = roof.seconds() / seconds;
  result.weight_gb_s = weights * 1e-9 / seconds;
  result.weight_share = result.weight_gb_s / roofs.read_gb_per_s;
  const auto active =
      static_cast<double>(model.spec.active_parameters() - int64_t{model.spec.vocab} * model.spec.width);
  result.gflop_s = 2 * active * result.rows * 1e-9 / seconds;
  const bool bf16 = model.input == MatmulInput::kBF16;
  result.gflop_share = result.gflop_s / (bf16 ? roofs.bf16_gflop_per_s : roofs.f32_gflop_per_s);
}

Roofs best_of(const Roofs& a, const Roofs& b) {
  return {.read_gb_per_s = std::max(a.read_gb_per_s, b.read_gb_per_s),
          .copy_gb_per_s = std::max(a.copy_gb_per_s, b.copy_gb_per_s),
          .f32_gflop_per_s = std::max(a.f32_gflop_per_s, b.f32_gflop_per_s),
          .bf16_gflop_per_s = std::max(a.bf16_gflop_per_s, b.bf16_gflop_per_s),
          .bf16_by = a.bf16_by};
}

Isa isa_of(const EngineConfig& config) {
  for (const Isa isa : {Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16}) {
    if (name_of(isa) == config.isa) return isa;
  }
  return Isa::kReference;
}

// A result with its times, its costs and its profile still to be held against the roofs.
struct Measured {
  BenchResult result;
  std::vector<OpCost> costs;
};

Result<Measured> measure(Engine& engine, const BenchTest& test, const BenchOptions& options,
                         const Roofs& roofs) {
  uint64_t seed = options.seed + 1;
  const bool on_device = engine.executor().stream().device() != nullptr;
  const int64_t rows = int64_t{test.batch} * (prompt_len(test) + drawn_tokens(test, kMaxTokens) - 1);
  Progress progress(concat("bench ", test.name(), ", batch ", test.batch, ", depth ", test.depth, ", tokens"),
                    rows * (options.reps + (on_device ? 2 : 1)), ProgressUnit::kItems, options.progress);
  std::optional<Profiler> profiler;
  if (options.profile) profiler.emplace(engine.executor());
  TestRun run(engine, test, progress);
  Measured measured{.result = {.test = test, .reps = options.reps}};
  BenchResult& result = measured.result;
  std::vector<double> rates, step_us;
  int64_t steps = 0, counted_rows = 0;
  for (int32_t i = 0; i <= options.reps; ++i) {
    LS_TRY(run.add_requests(seed));
    const Repetition rep = LS_TRY(run.repeat(profiler ? &*profiler : nullptr));
    const double rate = static_cast<double>(rep.rows) / rep.seconds;
    if (i == 0) {
      result.warmup_tok_s = rate;
      run.take_costs();
      if (profiler) profiler->clear();
      continue;
    }
    rates.push_back(rate);
    step_us.push_back(rep.seconds * 1e6 / static_cast<double>(rep.steps));
    steps += rep.steps;
    counted_rows += rep.rows;
  }
  result.tok_s = median(rates);
  result.sd = deviation(rates);
  result.step_us = median(step_us);
  result.rows = static_cast<double>(counted_rows) / static_cast<double>(steps);
  measured.costs = run.take_costs();
  divide(measured.costs, static_cast<double>(steps));
  if (profiler) result.profile = profiler->lines(measured.costs, roofs);
  profiler.reset();
  if (!on_device) return measured;
  LS_TRY(run.add_requests(seed));
  LS_TRY(run.time_device(result));
  return measured;
}

}  // namespace

std::string BenchTest::name() const { return concat(kind == Kind::kPrefill ? "pp" : "tg", tokens); }

Result<EngineConfig> bench_config(const EngineConfig& config, const ChosenSizes& chosen,
                                  std::vector<BenchTest>& tests, int32_t room) {
  EngineConfig sized = config;
  int32_t longest_prompt = 1, widest = 1;
  for (const BenchTest& test : tests) {
    LS_TRY(check_test(test));
    longest_prompt =
        std::max(longest_prompt, test.kind == BenchTest::Kind::kPrefill ? test.tokens : test.depth);
    widest = std::max(widest, test.batch);
  }
  if (!chosen.chunk_size) sized.chunk_size = std::min(longest_prompt, kMaxChunk);
  int64_t rows = sized.chunk_size + widest, length = 2, pages = 1;
  for (BenchTest& test : tests) {
    if (test.kind == BenchTest::Kind::kPrefill) test.depth = round_up(test.depth, sized.chunk_size);
    rows = std::max(rows, std::min<int64_t>(int64_t{test.batch} * prompt_len(test), kMaxChunk));
    const int64_t longest =
        std::max<int64_t>(room, int64_t{prompt_len(test)} + drawn_tokens(test, sized.chunk_size));
    length = std::max(length, longest);
    pages = std::max(pages, test.batch * ceil_div<int64_t>(longest, std::max(1, config.page_size)));
  }
  if (!chosen.max_num_seqs) sized.max_num_seqs = widest;
  if (!chosen.max_num_batched_tokens) sized.max_num_batched_tokens = static_cast<int32_t>(rows);
  if (!chosen.max_model_len) sized.max_model_len = static_cast<int32_t>(std::min<int64_t>(length, INT32_MAX));
  if (!chosen.num_pages) sized.num_pages = static_cast<int32_t>(std::min<int64_t>(pages, INT32_MAX));
  return sized;
}

Result<BenchReport> run_bench(Engine& engine, const BenchOptions& options) {
  LS_TRY(check_number("--reps", options.reps, 1, 10000));
  const Isa isa = isa_of(engine.config());
  BenchReport report{.cpu = detect_cpu(), .roofs = {}, .results = {}};
  report.roofs = LS_TRY(measure_roofs(engine.executor().stream(), isa));
  std::vector<Measured> measured;
  for (const BenchTest& test : options.tests) {
    measured.push_back(LS_TRY(measure(engine, test, options, report.roofs)));
  }
  report.roofs = best_of(report.roofs, LS_TRY(measure_roofs(engine.executor().stream(), isa)));
  for (Measured& each : measured) {
    compare(engine.model(), each.costs, report.roofs, each.result);
    report.results.push_back(std::move(each.result));
  }
  return report;
}

}  // namespace lockstep
