#include "cli/program.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <new>
#include <optional>

#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/record_signal.h"
#include "engine/exit_codes.h"
#include "engine/rank_part.h"
#include "engine/rank_records.h"

namespace lockstep::cli {
namespace {

constexpr size_t kMaxMessage = 1000;

constexpr const char* kFooter =
    "Without --model every command uses the storyteller, a small model that comes with the program.\n"
    "\n"
    "Examples:\n"
    "  lockstep generate --prompt \"Once upon a time\"\n"
    "  lockstep inspect --model ./Qwen3-0.6B\n"
    "  lockstep bench --batch 1,8\n"
    "  lockstep bench --help\n";

constexpr const char* kWhereValuesComeFrom =
    "\nA flag that is not typed is looked up in the environment (LOCKSTEP_MAX_NUM_SEQS for --max-num-seqs),\n"
    "then in the file of --config (max-num-seqs = 8, one per line; those of one command under [its name]).\n";

void print_error(std::string_view message) {
  std::fprintf(stderr, "lockstep: %s\n", one_line(message).c_str());
}

// A table of who said what has lines.
void print_lines(std::string_view message) {
  std::string text;
  while (!message.empty()) {
    const size_t length = std::min(message.find('\n'), message.size());
    text += (text.empty() ? "lockstep: " : "\n") + one_line(message.substr(0, length));
    message.remove_prefix(std::min(length + 1, message.size()));
  }
  std::fprintf(stderr, "%s\n", text.c_str());
}

int exit_code(const Status& status) {
  if (!status.ok() && status.fault() != nullptr) {
    print_lines(status.message());
  } else if (!status.ok()) {
    print_error(status.message());
  }
  return exit_code_of(status);
}

int usage_error(const CLI::App& command, const std::string& message) {
  if (speaks()) print_error(concat(message, "; see lockstep ", command.get_name(), " --help"));
  return kExitUsage;
}

// Parses; an exit code when that ends the program. `origin` says where words that were not typed come from.
std::optional<int> parse(CLI::App& command, std::vector<std::string> words, std::string_view origin) {
  try {
    std::reverse(words.begin(), words.end());  // CLI11 takes words from the back
    command.parse(std::move(words));
  } catch (const CLI::CallForHelp&) {
    std::fputs(command.help("lockstep").c_str(), stdout);
    return 0;
  } catch (const CLI::ParseError& failure) {
    return usage_error(command, concat(command.get_name(), ": ", explain(command, failure), origin));
  }
  const std::vector<std::string> extras = command.remaining();
  if (extras.empty()) return std::nullopt;
  const std::string& first = extras.front();
  std::string hint = "; expected flags only";
  if (first.starts_with("-")) {
    const std::string nearest = nearest_flag(command, first);
    hint = nearest.empty() ? "" : "; the nearest is " + nearest;
  }
  return usage_error(command, concat(command.get_name(), ": unknown argument ", first, hint));
}

// The command itself, in a process that is all of it or one of its ranks.
int run_here(const Command& command, const MeshShape& shape, const std::function<void(int)>& say_end) {
  const Result<std::unique_ptr<RankSession>> ranks = RankSession::begin(shape, [say_end](int code) {
    say_end(code);
    std::_Exit(code);
  });
  if (!ranks.ok()) return exit_code(ranks.status());
  const int code = exit_code((*ranks)->leave(command.run(**ranks)));
  say_end(code);  // before the mesh ends, which waits for ranks that may be lost
  return code;
}

// What the ranks of a job have left, as one file for each fault.
void merge_records(const Command& command, std::filesystem::file_time_type began) {
  const std::string folder = command.record_dir ? command.record_dir() : "";
  if (folder.empty()) return;
  const Result<std::vector<std::string>> merged = merge_rank_records(folder, began);
  if (!merged.ok()) return print_error(merged.status().message());
  for (const std::string& path : *merged)
    print_error(concat("the records of all ranks are together in ", path, ", which lockstep explain reads"));
}

int run_command(const Command& command, const std::vector<std::string>& words) {
  CLI::App& app = *command.app;
  if (const std::optional<int> ended = parse(app, words, "")) return *ended;
  const Result<std::vector<std::string>> more = words_not_typed(app);
  if (!more.ok()) return usage_error(app, more.status().message());
  if (!more->empty()) {
    std::vector<std::string> all = *more;
    all.insert(all.end(), words.begin(), words.end());
    const std::optional<int> ended = parse(app, all, ", as the environment or --config says");
    if (ended) return *ended;
  }
  if (!command.parallel) return run_here(command, {}, [](int) {});
  if (this_rank()) hold_record_signal();  // control and transport have threads of their own
  const Result<RankPart> part = RankPart::of(command.parallel());
  if (!part.ok()) return usage_error(app, part.status().message());
  std::vector<std::string> whole = {app.get_name()};
  whole.insert(whole.end(), words.begin(), words.end());
  const auto began = std::filesystem::file_time_type::clock::now();
  const Result<std::optional<int>> front = part->run_as_front(whole);
  if (!front.ok()) return exit_code(front.status());
  if (front->has_value()) {
    merge_records(command, began);
    return **front;
  }
  const int code = run_here(command, command.parallel(), [part = *part](int how) { part.end_with(how); });
  part->end_with(code);
  return code;
}

std::vector<Command> add_commands(CLI::App& app) {
  std::vector<Command> commands = {add_generate(app), add_perplexity(app), add_bench(app), add_inspect(app),
                                   add_devices(app),  add_explain(app),    add_doctor(app)};
  app.footer(kFooter);
  for (const Command& command : commands) {
    command.app->allow_extras();
    command.app->add_option("--config", "File of flags in TOML")->type_name("FILE");
    command.app->footer(command.app->get_footer() + kWhereValuesComeFrom);
  }
  return commands;
}

int unknown_command(const std::vector<Command>& commands, const std::string& word) {
  std::string known;
  std::vector<std::string> names;
  for (const Command& command : commands) {
    names.push_back(command.app->get_name());
    known += (known.empty() ? "" : ", ") + names.back();
  }
  const std::string nearest = nearest_word(names, word);
  print_error(concat("unknown command ", word, "; expected one of ", known,
                     nearest.empty() ? "" : "; the nearest is ", nearest));
  return kExitUsage;
}

}  // namespace

std::string one_line(std::string_view message) {
  std::string line(message.substr(0, kMaxMessage));
  // No character is cut in its middle: bytes 10xxxxxx continue one.
  if (message.size() > kMaxMessage) {
    size_t end = kMaxMessage;
    while (end > 0 && (static_cast<unsigned char>(message[end]) & 0xC0) == 0x80) --end;
    line = std::string(message.substr(0, end)) + " ...";
  }
  std::replace_if(
      line.begin(), line.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; }, ' ');
  return line;
}

int run_program(const std::vector<std::string>& words, std::string_view version) {
  CLI::App app("Lockstep: an LLM inference engine whose step plan and kernels cannot silently disagree",
               "lockstep");
  const std::vector<Command> commands = add_commands(app);
  mute_other_ranks();
  const std::string first = words.empty() ? "" : words.front();
  if (words.empty() || first == "--help" || first == "-h" || first == "help") {
    std::fputs(app.help().c_str(), words.empty() ? stderr : stdout);
    return words.empty() ? kExitUsage : 0;
  }
  if (first == "--version") {
    std::printf("lockstep %s\n", std::string(version).c_str());
    return 0;
  }
  for (const Command& command : commands) {
    if (command.app->get_name() != first) continue;
    try {
      return run_command(command, {words.begin() + 1, words.end()});
    } catch (const std::bad_alloc&) {
      print_error(concat(first, ": out of memory; expected smaller sizes than these flags or files ask for"));
      return kExitError;
    }
  }
  return unknown_command(commands, first);
}

}  // namespace lockstep::cli
