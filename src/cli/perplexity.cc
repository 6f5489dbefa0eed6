// lockstep perplexity: how well a model foretells a text.
#include "engine/perplexity.h"

#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <numbers>

#include "base/clock.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/record_signal.h"
#include "json/json_writer.h"

namespace lockstep::cli {
namespace {

struct PerplexityFlags {
  EngineFlags engine;
  PerplexityOptions options;
  std::string file;
  int64_t tokens = 0;
  bool json = false;
};

// Everything that is printed.
struct Report {
  Perplexity found;
  int64_t bytes = 0;  // of the text that the tokens are of; 0: of a part that is not counted in bytes
  double seconds = 0;
};

Result<std::string> read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file)
    return error(Code::kNotFound, "--file: ", path.empty() ? "(none)" : path,
                 " cannot be read; expected a text file");
  return std::string(std::istreambuf_iterator<char>(file), {});
}

Result<std::vector<int32_t>> tokens_of(const Engine& engine, const std::string& text) {
  if (engine.tokenizer() == nullptr) {
    return error(Code::kInvalidArgument, "perplexity: ", engine.model().name,
                 " has no tokenizer.json; expected one that makes tokens of --file");
  }
  return engine.tokenizer()->encode(text, {.add_special_tokens = true});
}

void write_json(const Report& report, const PerplexityFlags& flags, const Engine& engine) {
  const Perplexity& found = report.found;
  JsonWriter json;
  json.begin_object().member("schema", "lockstep.perplexity/1").member("model", engine.model().name);
  json.member("dtype", name_of(engine.model().weight_dtype)).member("file", flags.file);
  json.member("tokens", found.tokens).member("scored", found.scored).member("windows", found.windows);
  json.member("window", flags.options.window).member("stride", flags.options.stride);
  json.member("nats_per_token", found.nats_per_token());
  json.member("bits_per_token", found.nats_per_token() / std::numbers::ln2);
  json.member("perplexity", std::exp(found.nats_per_token()));
  if (report.bytes > 0)
    json.member("bits_per_byte", found.nats / std::numbers::ln2 / static_cast<double>(report.bytes));
  json.member("seconds", report.seconds).end_object();
  std::cout << std::move(json).take() << "\n";
}

void print(const Report& report, const PerplexityFlags& flags, const Engine& engine) {
  const Perplexity& found = report.found;
  std::printf("%.4f nats per token, %.4f bits, perplexity %.2f\n", found.nats_per_token(),
              found.nats_per_token() / std::numbers::ln2, std::exp(found.nats_per_token()));
  std::fflush(stdout);
  std::fprintf(stderr,
               "%lld tokens foretold in %lld windows of %d, %d apart, in %.2f s, %.0f tok/s (%s, %s, %d "
               "threads, %s)\n",
               static_cast<long long>(found.scored), static_cast<long long>(found.windows),
               flags.options.window, flags.options.stride, report.seconds,
               static_cast<double>(found.scored) / report.seconds, engine.model().name.c_str(),
               std::string(name_of(engine.model().weight_dtype)).c_str(), engine.config().threads,
               engine.config().isa.c_str());
}

Status run(const PerplexityFlags& flags, RankSession& ranks) {
  const std::string text = LS_TRY(read_text(flags.file));
  EngineConfig config = LS_TRY(engine_config(flags.engine));
  Mesh& mesh = ranks.mesh();
  if (mesh.world().size() > 1) config.mesh = &mesh;
  config.pulse = &ranks.pulse();
  RecordSignal signal;
  Result<std::unique_ptr<Engine>> made = Engine::create(config);
  if (!made.ok()) return made.status();
  Engine& engine = **made;
  signal.serve(engine);
  if (!engine.leads()) {
    for (bool more = true; more;) more = LS_TRY(engine.follow());
    return {};
  }
  std::vector<int32_t> tokens = LS_TRY(tokens_of(engine, text));
  Report report{.bytes = static_cast<int64_t>(text.size())};
  if (flags.tokens > 0 && flags.tokens < static_cast<int64_t>(tokens.size())) {
    tokens.resize(static_cast<size_t>(flags.tokens));
    report.bytes = 0;
  }
  const int64_t start = now_ns();
  report.found = LS_TRY(perplexity(engine, mesh.dp(), tokens, flags.options));
  report.seconds = seconds_since(start);
  if (mesh.rank() != 0) return {};
  if (flags.json) {
    write_json(report, flags, engine);
  } else {
    print(report, flags, engine);
  }
  return {};
}

constexpr const char* kFooter =
    "The text is one run of tokens, cut into windows that overlap; every token but the first is foretold "
    "once,\n"
    "from what stands before it in the first window that has it. Natural logarithms over the whole "
    "vocabulary.\n"
    "The numbers do not depend on --max-num-seqs, --threads, --page-size or --graph-sizes.\n"
    "\n"
    "Examples:\n"
    "  lockstep perplexity --file tales.txt\n"
    "  lockstep perplexity --model ./Qwen3-0.6B-FP8 --file wiki.txt --window 2048 --stride 1024 --json\n";

}  // namespace

Command add_perplexity(CLI::App& parent) {
  CLI::App* app = parent.add_subcommand("perplexity", "Measure how well a model foretells a text");
  const auto flags = std::make_shared<PerplexityFlags>();
  app->footer(kFooter);
  app->add_option("-f,--file", flags->file, "Text that is foretold")->required();
  app->add_option("--window", flags->options.window, "Tokens of a window, at most --max-model-len")
      ->capture_default_str();
  app->add_option("--stride", flags->options.stride, "Tokens from one window to the next")
      ->capture_default_str();
  app->add_option("--tokens", flags->tokens, "Only so many tokens of the text, from its beginning; 0: all");
  app->add_flag("--json", flags->json, "One JSON document instead of a line");
  add_engine_flags(*app, flags->engine);
  return {.app = app,
          .run = [flags](RankSession& ranks) { return run(*flags, ranks); },
          .parallel = [flags] { return flags->engine.config.parallel; },
          .record_dir = [flags] { return flags->engine.config.record_dir; }};
}

}  // namespace lockstep::cli
