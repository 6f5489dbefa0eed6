// lockstep bench: how fast prompts are read and tokens drawn here, beside what the machine could do.
#include "engine/bench.h"

#include <cstdio>
#include <iostream>
#include <memory>

#include "cli/commands.h"
#include "cli/flags.h"
#include "diag/table.h"
#include "engine/guard_cost.h"
#include "json/json_writer.h"

namespace lockstep::cli {
namespace {

struct BenchFlags {
  EngineFlags engine;
  ChosenSizes chosen;
  std::vector<int32_t> prefill = {512};
  std::vector<int32_t> decode = {128};
  std::vector<int32_t> batches = {1};
  std::vector<int32_t> depths = {0};
  int32_t reps = 5;
  int64_t level_steps = 0;
  bool profile = false;
  bool json = false;
};

// All tests of one batch size stand together; 0 tokens leaves a kind out.
std::vector<BenchTest> tests_of(const BenchFlags& flags) {
  std::vector<BenchTest> tests;
  for (const int32_t batch : flags.batches) {
    for (const int32_t depth : flags.depths) {
      for (const int32_t tokens : flags.prefill) {
        if (tokens != 0)
          tests.push_back(
              {.kind = BenchTest::Kind::kPrefill, .tokens = tokens, .batch = batch, .depth = depth});
      }
      for (const int32_t tokens : flags.decode) {
        if (tokens != 0)
          tests.push_back(
              {.kind = BenchTest::Kind::kDecode, .tokens = tokens, .batch = batch, .depth = depth});
      }
    }
  }
  return tests;
}

// Null: the CPU computes.
const Device* gpu_of(const Engine& engine) { return engine.config().model.device.get(); }

void write_result(const BenchResult& result, const Engine& engine, JsonWriter& json) {
  json.begin_object()
      .member("test", result.test.name())
      .member("batch", result.test.batch)
      .member("depth", result.test.depth)
      .member("dtype", name_of(engine.model().weight_dtype))
      .member("device", engine.config().device)
      .member("guard", name_of(engine.config().guard))
      .member("tok_s", result.tok_s)
      .member("sd", result.sd)
      .member("reps", result.reps)
      .member("warmup_tok_s", result.warmup_tok_s)
      .member("step_us", result.step_us)
      .member("bytes", result.bytes)
      .member("flop", result.flop)
      .member("roof", result.roof)
      .member("roof_share", result.roof_share)
      .member("weight_gbs", result.weight_gb_s)
      .member("weight_read_share", result.weight_share)
      .member("parameter_gflops", result.gflop_s)
      .member("parameter_flop_share", result.gflop_share);
  if (gpu_of(engine) != nullptr) json.member("device_us", result.device_us).member("idle_us", result.idle_us);
  if (!result.profile.empty()) {
    json.key("profile").begin_array();
    for (const ProfileLine& line : result.profile) {
      json.begin_object().member("op", line.op).member("stage", line.stage).member("calls", line.calls);
      json.member("us", line.us).member("bytes", line.bytes).member("flop", line.flop);
      json.member("roof_us", line.roof_us).end_object();
    }
    json.end_array();
  }
  json.end_object();
}

void write_ratios(const std::vector<LevelRatio>& ratios, JsonWriter& json) {
  json.key("ratios").begin_array();
  for (const LevelRatio& r : ratios) {
    json.begin_object().member("of", name_of(r.of)).member("to", name_of(r.to)).member("batch", r.batch);
    json.member("value", r.ratio).key("ci95").begin_array().value(r.low).value(r.high).end_array();
    json.member("of_us", r.of_us).member("to_us", r.to_us).member("steps", r.steps).end_object();
  }
  json.end_array();
}

void write_json(const BenchReport& report, const std::vector<LevelRatio>& ratios, const Engine& engine) {
  JsonWriter json;
  json.begin_object().member("schema", "lockstep.bench/1");
  json.key("machine").begin_object();
  json.member("cpu", report.cpu.model).member("isa", engine.config().isa);
  json.member("threads", engine.config().threads).member("read_gbs", report.roofs.read_gb_per_s);
  json.member("copy_gbs", report.roofs.copy_gb_per_s).member("f32_gflops", report.roofs.f32_gflop_per_s);
  json.member("bf16_gflops", report.roofs.bf16_gflop_per_s).member("bf16_by", report.roofs.bf16_by);
  json.key("gpu");
  if (const Device* gpu = gpu_of(engine)) {
    json.value(gpu->description());
  } else {
    json.value(nullptr);
  }
  json.end_object();
  json.key("model").begin_object().member("name", engine.model().name);
  json.member("dtype", name_of(engine.model().weight_dtype));
  json.member("parameters", engine.model().spec.parameters()).end_object();
  json.key("results").begin_array();
  for (const BenchResult& result : report.results) write_result(result, engine, json);
  json.end_array();
  write_ratios(ratios, json);
  json.end_object();
  std::cout << std::move(json).take() << "\n";
}

void print_machine(const BenchReport& report, const Engine& engine) {
  const Model& model = engine.model();
  std::cout << model.name << ", " << count_text(static_cast<double>(model.spec.parameters()))
            << " parameters, " << name_of(model.weight_dtype) << "\n"
            << (gpu_of(engine) != nullptr ? gpu_of(engine)->description() + ", beside " : "")
            << report.cpu.model << ", " << engine.config().isa << ", " << engine.config().threads
            << " threads: reads " << fixed(report.roofs.read_gb_per_s, 1) << " GB/s, copies "
            << fixed(report.roofs.copy_gb_per_s, 1) << " GB/s, multiplies "
            << fixed(report.roofs.bf16_gflop_per_s, 0) << " GFLOP/s in bf16 (" << report.roofs.bf16_by
            << "), " << fixed(report.roofs.f32_gflop_per_s, 0) << " in f32\n\n";
}

// What the field quotes: for draws the weights' bytes per second, for prompts the parameters' arithmetic.
std::string plain_figure(const BenchResult& result) {
  if (result.test.kind == BenchTest::Kind::kDecode) {
    return fixed(result.weight_gb_s, 1) + " GB/s of weights, " + percent(result.weight_share) + " of reading";
  }
  return fixed(result.gflop_s, 0) + " GFLOP/s, " + percent(result.gflop_share) + " of multiplying";
}

void print_results(const BenchReport& report, bool on_gpu) {
  std::vector<Table::Column> columns = {
      {"test", Align::kLeft}, {"batch"}, {"depth"}, {"tok/s"}, {"± sd"}, {"µs/step"}};
  if (on_gpu) columns.push_back({"GPU idle"});
  for (const Table::Column& column :
       {Table::Column{"MB/step"}, Table::Column{"GFLOP/step"}, Table::Column{"roof", Align::kLeft},
        Table::Column{"of roof"}, Table::Column{"plain figure", Align::kLeft}})
    columns.push_back(column);
  Table table(std::move(columns));
  for (const BenchResult& r : report.results) {
    std::vector<std::string> cells = {
        r.test.name(),  std::to_string(r.test.batch), std::to_string(r.test.depth), fixed(r.tok_s, 2),
        fixed(r.sd, 2), fixed(r.step_us, 0)};
    if (on_gpu) cells.push_back(fixed(r.idle_us, 0));
    for (std::string cell :
         {fixed(r.bytes * 1e-6, 1), fixed(r.flop * 1e-9, 2), r.roof, percent(r.roof_share), plain_figure(r)})
      cells.push_back(std::move(cell));
    table.row(std::move(cells));
  }
  std::cout << table.text();
}

// How steps reached the device, the proof of graphs left out.
void print_graphs(const Engine& engine, int64_t proof_replays) {
  const StepRunner& runner = engine.runner();
  std::cout << "\n" << grouped(runner.replays() - proof_replays) << " steps were replayed";
  std::string_view separator = "; without a graph: ";
  for (const auto& [reason, steps] : runner.eager_steps()) {
    if (reason == kGraphProof) continue;
    std::cout << separator << grouped(steps) << " " << reason;
    separator = ", ";
  }
  std::cout << "\n";
}

// Which steps began while the one before was under way.
void print_overlap(const Engine& engine) {
  const EngineStats stats = engine.stats();
  std::cout << grouped(stats.overlapped) << " began while the one before was under way";
  std::string_view separator = "; not: ";
  for (const auto& [reason, steps] : stats.not_overlapped) {
    std::cout << separator << grouped(steps) << ", as " << reason;
    separator = "; ";
  }
  std::cout << "\n";
}

void print_profile(const BenchResult& result) {
  if (result.profile.empty()) return;
  std::cout << "\n"
            << result.test.name() << ", batch " << result.test.batch << ", depth " << result.test.depth
            << ", per step:\n";
  Table table({{"op", Align::kLeft},
               {"stage", Align::kLeft},
               {"calls"},
               {"µs"},
               {"share"},
               {"GB/s"},
               {"GFLOP/s"},
               {"of roof"}});
  double total = 0;
  for (const ProfileLine& line : result.profile) total += line.us;
  for (const ProfileLine& line : result.profile) {
    table.row({line.op, line.stage, std::to_string(line.calls), fixed(line.us, 1), percent(line.us / total),
               line.bytes > 0 ? fixed(line.bytes * 1e-3 / line.us, 1) : "",
               line.flop > 0 ? fixed(line.flop * 1e-3 / line.us, 1) : "",
               line.roof_us > 0 ? percent(line.roof_us / line.us) : ""});
  }
  std::cout << table.text();
}

void print_ratios(const std::vector<LevelRatio>& ratios) {
  if (ratios.empty()) return;
  std::cout << "\nGuard levels, alternating step by step in one process:\n";
  Table table({{"levels", Align::kLeft},
               {"batch"},
               {"steps"},
               {"µs"},
               {"µs"},
               {"more µs"},
               {"ratio"},
               {"95% interval"}});
  for (const LevelRatio& r : ratios) {
    table.row({concat(name_of(r.of), " to ", name_of(r.to)), std::to_string(r.batch), std::to_string(r.steps),
               fixed(r.of_us, 1), fixed(r.to_us, 1), fixed(r.of_us - r.to_us, 1), fixed(r.ratio, 4),
               fixed(r.low, 4) + " to " + fixed(r.high, 4)});
  }
  std::cout << table.text();
}

Status run(const BenchFlags& flags) {
  if (const int32_t ranks = flags.engine.config.parallel.world(); ranks != 1) {
    return error(
        Code::kUnimplemented, "bench: ", ranks,
        " ranks are asked for; expected 1, as steps of several are not measured; generate runs them");
  }
  BenchOptions options{.tests = tests_of(flags),
                       .reps = flags.reps,
                       .seed = flags.engine.config.model.seed,
                       .profile = flags.profile,
                       .progress = {}};
  if (options.tests.empty())
    return error(Code::kInvalidArgument, "bench: nothing to measure; give --pp or --tg");
  if (flags.level_steps < 0 || flags.level_steps == 1)
    return error(Code::kInvalidArgument, "bench: --level-steps is ", flags.level_steps,
                 "; expected 0 or at least 2");
  EngineConfig given = LS_TRY(engine_config(flags.engine));
  if (flags.profile) given.overlap = Overlap::kNever;  // launches are told apart by their steps
  const EngineConfig sized =
      LS_TRY(bench_config(given, flags.chosen, options.tests, flags.level_steps > 0 ? kGuardCostRoom : 0));
  const std::unique_ptr<Engine> engine = LS_TRY(Engine::create(sized));
  const int64_t proof_replays = engine->runner().replays();
  const BenchReport report = LS_TRY(run_bench(*engine, options));
  std::vector<LevelRatio> ratios;
  for (const int32_t batch : flags.level_steps > 0 ? flags.batches : std::vector<int32_t>{}) {
    const EngineConfig& chosen = engine->config();
    // As long as the pages that the tests need allow.
    const int32_t longest = std::min(chosen.max_model_len, chosen.num_pages / batch * chosen.page_size);
    ratios.push_back(LS_TRY(guard_cost(*engine, {.batch = batch,
                                                 .steps = flags.level_steps,
                                                 .longest = longest,
                                                 .seed = options.seed,
                                                 .progress = {}})));
  }
  if (flags.json) {
    write_json(report, ratios, *engine);
    return {};
  }
  print_machine(report, *engine);
  print_results(report, gpu_of(*engine) != nullptr);
  print_graphs(*engine, proof_replays);
  if (gpu_of(*engine) != nullptr) print_overlap(*engine);
  for (const BenchResult& result : report.results) print_profile(result);
  print_ratios(ratios);
  return {};
}

constexpr const char* kFooter =
    "A test is ppN (N tokens of prompt are read) or tgN (N tokens are drawn), as in llama-bench; the first\n"
    "repetition warms up and is not counted; tok/s is the median, of all sequences together. The roof of a\n"
    "step is the least time that its weights, keys, values, states and products take at the rates that this\n"
    "machine shows in the same run. A model that fits into a cache may exceed it.\n"
    "\n"
    "Examples:\n"
    "  lockstep bench\n"
    "  lockstep bench --model ./Qwen3-0.6B --batch 1,2,4,8 --pp 0\n"
    "  lockstep bench --load-format dummy --model qwen3-0.6b --depth 0,4096 --profile\n";

}  // namespace

Command add_bench(CLI::App& parent) {
  CLI::App* app = parent.add_subcommand("bench", "Measure tokens per second, beside what the machine allows");
  const auto flags = std::make_shared<BenchFlags>();
  app->footer(kFooter);
  const auto list = [app](const char* names, std::vector<int32_t>& into, const char* help) {
    app->add_option(names, into, help)
        ->delimiter(',')
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->allow_extra_args(false)
        ->type_name(kListType)
        ->capture_default_str();
  };
  list("-p,--pp", flags->prefill, "Tokens of the prompts to read, a list; 0: none");
  list("-n,--tg", flags->decode, "Tokens to draw, a list; 0: none");
  list("-b,--batch", flags->batches, "Sequences at once, a list");
  list("-d,--depth", flags->depths, "Tokens that each sequence has before, a list");
  app->add_option("-r,--reps", flags->reps, "Repetitions that count")->capture_default_str();
  app->add_option("--level-steps", flags->level_steps,
                  "Also measure what the guard costs: that many decode steps per batch, alternating between "
                  "the levels plan "
                  "and replay; 0: not")
      ->capture_default_str();
  app->add_flag("--profile", flags->profile, "Show where the time of a step goes, by op");
  app->add_flag("--json", flags->json, "One JSON document instead of tables");
  add_engine_flags(*app, flags->engine);
  return {.app = app,
          .run =
              [app, flags](RankSession&) {
                flags->chosen = {.max_model_len = app->count("--max-model-len") > 0,
                                 .max_num_seqs = app->count("--max-num-seqs") > 0,
                                 .max_num_batched_tokens = app->count("--max-num-batched-tokens") > 0,
                                 .chunk_size = app->count("--chunk-size") > 0,
                                 .num_pages = app->count("--num-pages") > 0};
                return run(*flags);
              },
          .parallel = nullptr};
}

}  // namespace lockstep::cli
