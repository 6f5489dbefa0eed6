// lockstep: the command line.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/flags.h"

namespace lockstep::cli {
namespace {

constexpr int kExitError = 1;
constexpr int kExitUsage = 2;
constexpr int kExitDeviceLost = 70;

int exit_code(const Status& status) {
  if (status.ok()) return 0;
  std::fprintf(stderr, "lockstep: %s\n", status.message().c_str());
  return status.code() == Code::kDevice ? kExitDeviceLost : kExitError;
}

int usage_error(const CLI::App& command, const std::string& message) {
  std::fprintf(stderr, "lockstep: %s; see lockstep %s --help\n", message.c_str(), command.get_name().c_str());
  return kExitUsage;
}

// A flag that does not exist exits with the nearest one that does.
int refuse_extras(const CLI::App& command, const std::vector<std::string>& extras) {
  const std::string& first = extras.front();
  const std::string nearest = first.starts_with("-") ? nearest_flag(command, first) : "";
  return usage_error(command, concat(command.get_name(), ": unknown argument ", first,
                                     nearest.empty() ? "" : "; the nearest is ", nearest));
}

int run_command(const Command& command, std::vector<std::string> words) {
  Result<std::vector<std::string>> complete = complete_arguments(*command.app, std::move(words));
  if (!complete.ok()) return usage_error(*command.app, complete.status().message());
  try {
    std::reverse(complete->begin(), complete->end());  // CLI11 takes words from the back
    command.app->parse(std::move(complete).value());
  } catch (const CLI::CallForHelp&) {
    std::fputs(command.app->help().c_str(), stdout);
    return 0;
  } catch (const CLI::ParseError& failure) {
    return usage_error(*command.app, concat(command.app->get_name(), ": ", failure.what()));
  }
  if (const std::vector<std::string> extras = command.app->remaining(); !extras.empty()) {
    return refuse_extras(*command.app, extras);
  }
  return exit_code(command.run());
}

int run(const std::vector<std::string>& words) {
  CLI::App app("Lockstep: an LLM inference engine whose step plan and kernels cannot silently disagree",
               "lockstep");
  const std::vector<Command> commands = {add_generate(app), add_bench(app)};
  for (const Command& command : commands) {
    command.app->allow_extras();
    command.app->add_option("--config",
                            "TOML file with flags; the command line and LOCKSTEP_... variables win");
  }
  if (words.empty() || words.front() == "--help" || words.front() == "-h") {
    std::fputs(app.help().c_str(), words.empty() ? stderr : stdout);
    return words.empty() ? kExitUsage : 0;
  }
  if (words.front() == "--version") {
    std::puts("lockstep " LOCKSTEP_VERSION);
    return 0;
  }
  for (const Command& command : commands) {
    if (command.app->get_name() == words.front())
      return run_command(command, {words.begin() + 1, words.end()});
  }
  std::string known;
  for (const Command& command : commands) known += (known.empty() ? "" : ", ") + command.app->get_name();
  std::fprintf(stderr, "lockstep: unknown command %s; expected one of %s\n", words.front().c_str(),
               known.c_str());
  return kExitUsage;
}

}  // namespace
}  // namespace lockstep::cli

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_DFL);  // `lockstep generate | head` ends quietly
  return lockstep::cli::run({argv + 1, argv + argc});
}
