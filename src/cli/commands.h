// One function per command: parses its flags, does its work, returns the exit code.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "base/status.h"
#include "engine/config.h"
#include "engine/rank_session.h"

namespace lockstep::cli {

// A command whose flags were added to `app`; `run` is called after they were parsed.
struct Command {
  CLI::App* app = nullptr;
  std::function<Status(RankSession& ranks)> run;
  std::function<MeshShape()> parallel;      // the ranks that its flags ask for; null: it has one
  std::function<std::string()> record_dir;  // where they leave records; null or empty: nowhere
};

Command add_generate(CLI::App& parent);
Command add_bench(CLI::App& parent);
Command add_perplexity(CLI::App& parent);
Command add_inspect(CLI::App& parent);
Command add_devices(CLI::App& parent);
Command add_explain(CLI::App& parent);
Command add_doctor(CLI::App& parent);

}  // namespace lockstep::cli
