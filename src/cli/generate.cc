// lockstep generate: prompts in, text out, as it is drawn.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>

#include "base/clock.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/record_signal.h"
#include "cli/stories.h"
#include "diag/table.h"
#include "engine/engine.h"
#include "json/json_writer.h"

namespace lockstep::cli {
namespace {

struct GenerateFlags {
  EngineFlags engine;
  std::vector<std::string> prompts;
  std::string prompt_file;
  std::vector<std::string> stop;
  int32_t max_tokens = 128;
  std::optional<float> temperature;
  std::optional<int32_t> top_k;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  int32_t logprobs = -1;
  bool ignore_eos = false;
  bool echo = false;
  bool json = false;
  bool chose_seqs = false;
};

struct Figures {
  int64_t start_ns = 0;
  double first_token_s = 0;
  double seconds = 0;
  int64_t tokens = 0;
};

Request request_of(const GenerateFlags& flags, const std::string& prompt, const SamplingDefaults& defaults) {
  Request request;
  request.prompt = prompt;
  request.max_tokens = flags.max_tokens;
  request.temperature = flags.temperature.value_or(defaults.temperature);
  request.top_k = flags.top_k.value_or(defaults.top_k);
  request.top_p = flags.top_p.value_or(defaults.top_p);
  request.min_p = flags.min_p.value_or(defaults.min_p);
  request.repetition_penalty = flags.repetition_penalty.value_or(defaults.repetition_penalty);
  request.presence_penalty = flags.presence_penalty;
  request.frequency_penalty = flags.frequency_penalty;
  request.seed = flags.engine.config.model.seed;
  request.stop = flags.stop;
  request.logprobs = flags.logprobs;
  request.ignore_eos = flags.ignore_eos;
  return request;
}

Result<std::vector<std::string>> read_prompts(const GenerateFlags& flags) {
  std::vector<std::string> prompts = flags.prompts;
  if (!flags.prompt_file.empty()) {
    std::ifstream file(flags.prompt_file, std::ios::binary);
    if (!file) {
      return error(Code::kNotFound, "--prompt-file: ", flags.prompt_file,
                   " cannot be read; expected a text file");
    }
    prompts.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  if (prompts.empty())
    return error(Code::kInvalidArgument, "generate: no prompt; give --prompt or --prompt-file");
  return prompts;
}

// Shows what is complete, in the order of the prompts: the first unfinished story streams, later ones wait.
void show(std::vector<Story>& stories, const GenerateFlags& flags) {
  if (flags.json) return;
  for (size_t i = 0; i < stories.size(); ++i) {
    Story& story = stories[i];
    if (story.shown == 0 && !story.text.empty() && i > 0) std::cout << "\n\n";
    std::cout.write(story.text.data() + story.shown,
                    static_cast<std::streamsize>(story.text.size() - story.shown));
    story.shown = story.text.size();
    if (story.finish == FinishReason::kNone) break;
  }
  std::cout.flush();
}

void write_logprobs(const std::vector<TokenLogprobs>& logprobs, JsonWriter& json) {
  json.key("logprobs").begin_array();
  for (const TokenLogprobs& entry : logprobs) {
    json.begin_object().member("token", entry.token).member("logprob", static_cast<double>(entry.logprob));
    json.key("top").begin_array();
    for (const auto& [token, logprob] : entry.top) {
      json.begin_array().value(token).value(static_cast<double>(logprob)).end_array();
    }
    json.end_array().end_object();
  }
  json.end_array();
}

void write_json(const std::vector<Story>& stories, const Engine& engine, const Figures& figures) {
  JsonWriter json;
  json.begin_object().member("schema", "lockstep.generate/1").member("model", engine.model().name);
  json.key("results").begin_array();
  for (const Story& story : stories) {
    json.begin_object().member("prompt", story.prompt).member("text", story.text);
    json.key("tokens").begin_array();
    for (const int32_t token : story.tokens) json.value(token);
    json.end_array().member("finish_reason", name_of(story.finish));
    if (!story.error.empty()) json.member("error", story.error);
    if (!story.logprobs.empty()) write_logprobs(story.logprobs, json);
    json.end_object();
  }
  json.end_array();
  json.member("tokens", figures.tokens).member("seconds", figures.seconds);
  json.member("first_token_seconds", figures.first_token_s).key("start_up").begin_array();
  for (const StartUpPhase& phase : engine.start_up())
    json.begin_object().member("phase", phase.name).member("seconds", phase.seconds).end_object();
  json.end_array().end_object();
  std::cout << std::move(json).take() << "\n";
}

// "ready after 4.65 s: device 0.31, tokenizer 0.12, weights 3.41, memory 0.20, graphs 0.61"
void print_start_up(const Engine& engine) {
  double seconds = 0;
  std::string phases;
  for (const StartUpPhase& phase : engine.start_up()) {
    seconds += phase.seconds;
    phases += concat(phases.empty() ? "" : ", ", phase.name, " ", fixed(phase.seconds, 2));
  }
  std::fprintf(stderr, "ready after %.2f s: %s\n", seconds, phases.c_str());
}

void print_figures(const Figures& figures, const Engine& engine) {
  const double after_first = figures.seconds - figures.first_token_s;
  std::fprintf(
      stderr, "%lld tokens in %.2f s, %.1f tok/s, first token after %.0f ms (%s, %s, %d threads, %s)\n",
      static_cast<long long>(figures.tokens), figures.seconds,
      figures.tokens > 1 && after_first > 0 ? static_cast<double>(figures.tokens - 1) / after_first : 0.0,
      figures.first_token_s * 1e3, engine.model().name.c_str(),
      std::string(name_of(engine.model().weight_dtype)).c_str(), engine.config().threads,
      engine.config().isa.c_str());
}

// Draws the stories that are this replica's, and shows them as they grow where they are the first.
Status tell(Engine& engine, const Communicator& replicas, const GenerateFlags& flags,
            std::vector<Story>& stories, Figures& figures) {
  std::map<uint64_t, size_t> by_id;
  for (size_t i = static_cast<size_t>(replicas.rank()); i < stories.size();
       i += static_cast<size_t>(replicas.size()))
    by_id[LS_TRY(engine.add(request_of(flags, stories[i].prompt, engine.model().sampling)))] = i;
  show(stories, flags);
  do {
    for (RequestOutput& output : engine.step()) {
      Story& story = stories[by_id.at(output.id)];
      if (figures.tokens == 0) figures.first_token_s = seconds_since(figures.start_ns);
      figures.tokens += static_cast<int64_t>(output.tokens.size());
      take(output, story);
    }
    show(stories, flags);
  } while (engine.any_work());
  return {};
}

// While it lives, a rank that is ended because it is stuck leaves a record.
class LastRecord {
 public:
  LastRecord(RankSession& ranks, const Engine& engine) : ranks_(ranks) {
    if (engine.config().record_dir.empty()) return;
    ranks.set_last_words([&engine](const Status& why) {
      const Result<std::string> path = engine.records().write_stuck(why);
      if (path.ok()) std::fprintf(stderr, "lockstep: the record is %s\n", path->c_str());
    });
  }
  ~LastRecord() { ranks_.set_last_words(nullptr); }
  LastRecord(const LastRecord&) = delete;
  LastRecord& operator=(const LastRecord&) = delete;

 private:
  RankSession& ranks_;
};

Status run(const GenerateFlags& flags, RankSession& ranks) {
  const std::vector<std::string> prompts = LS_TRY(read_prompts(flags));
  EngineConfig config = LS_TRY(engine_config(flags.engine));
  // No more graphs are proven than these prompts can use.
  if (!flags.chose_seqs)
    config.max_num_seqs = static_cast<int32_t>(std::clamp<size_t>(prompts.size(), 1, 64));
  Mesh& mesh = ranks.mesh();
  if (mesh.world().size() > 1) config.mesh = &mesh;
  config.pulse = &ranks.pulse();
  RecordSignal signal;
  Result<std::unique_ptr<Engine>> made = Engine::create(config);
  if (!made.ok()) return made.status();
  Engine& engine = **made;
  signal.serve(engine);
  const LastRecord last_record(ranks, engine);
  if (!engine.leads()) {
    for (bool more = true; more;) more = LS_TRY(engine.follow());
    return {};
  }
  std::vector<Story> stories;
  for (const std::string& prompt : prompts)
    stories.push_back({.prompt = prompt, .text = flags.echo ? prompt : ""});
  Figures figures{.start_ns = now_ns()};
  LS_TRY(tell(engine, mesh.dp(), flags, stories, figures));
  if (const Status gathered = gather_stories(mesh.dp(), stories); !gathered.ok()) {
    const Status own = outcome_of(stories);  // says more: where the record is
    return own.ok() ? gathered : own;
  }
  figures.tokens = 0;
  for (const Story& story : stories) figures.tokens += static_cast<int64_t>(story.tokens.size());
  if (mesh.rank() != 0) return outcome_of(stories);
  show(stories, flags);
  figures.seconds = seconds_since(figures.start_ns);
  if (flags.json) {
    write_json(stories, engine, figures);
  } else {
    std::cout << std::endl;
  }
  print_start_up(engine);
  print_figures(figures, engine);
  return outcome_of(stories);
}

}  // namespace

Command add_generate(CLI::App& parent) {
  CLI::App* app = parent.add_subcommand("generate", "Continue one or more prompts; text streams to stdout");
  const auto flags = std::make_shared<GenerateFlags>();
  app->add_option("-p,--prompt", flags->prompts, "Text to continue; may be given several times")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->allow_extra_args(false);
  app->add_option("--prompt-file", flags->prompt_file, "File whose text is continued");
  app->add_option("-n,--max-tokens", flags->max_tokens, "Tokens to draw per prompt")->capture_default_str();
  app->add_option("--temperature", flags->temperature, "0: always the likeliest token. Default: the model's");
  app->add_option("--top-k", flags->top_k, "Draw among the k likeliest; 0: off");
  app->add_option("--top-p", flags->top_p, "Draw among the likeliest that together reach p");
  app->add_option("--min-p", flags->min_p, "Draw among those at least p times as likely as the likeliest");
  app->add_option("--repetition-penalty", flags->repetition_penalty,
                  "Above 1: tokens seen before become rarer");
  app->add_option("--presence-penalty", flags->presence_penalty, "Taken from tokens already drawn");
  app->add_option("--frequency-penalty", flags->frequency_penalty,
                  "Taken once per earlier draw of the token");
  app->add_option("--stop", flags->stop, "End before this text; may be given several times")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->allow_extra_args(false);
  app->add_option("--logprobs", flags->logprobs, "With --json: log probabilities of the n best tokens");
  app->add_flag("--ignore-eos", flags->ignore_eos, "Go on after the model says it is done");
  app->add_flag("--echo", flags->echo, "Print the prompt first");
  app->add_flag("--json", flags->json, "One JSON document at the end instead of text");
  add_engine_flags(*app, flags->engine);
  return {.app = app,
          .run =
              [app, flags](RankSession& ranks) {
                flags->chose_seqs = app->count("--max-num-seqs") > 0;
                return run(*flags, ranks);
              },
          .parallel = [flags] { return flags->engine.config.parallel; },
          .record_dir = [flags] { return flags->engine.config.record_dir; }};
}

}  // namespace lockstep::cli
