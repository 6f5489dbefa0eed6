// Command-line flags that several commands share, and where their values come from when they are not typed.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "engine/config.h"
#include "engine/request.h"

namespace lockstep::cli {

// What engine flags were set to, as typed.
struct EngineFlags {
  EngineConfig config;
  std::string model;
  std::string dtype = "auto";
  std::string device = "cpu";
  std::string load_format = "auto";
};

// Adds the flags of every command that makes an engine.
void add_engine_flags(CLI::App& command, EngineFlags& flags);
// The config that they mean. Errors: kNotFound for a model that is not there.
Result<EngineConfig> engine_config(const EngineFlags& flags);

// Words of a command line, with those added that LOCKSTEP_... variables and --config FILE.toml give for flags
// that were not typed: the command line wins, then the environment, then the file. Errors: kNotFound or
// kInvalidArgument for the file.
Result<std::vector<std::string>> complete_arguments(const CLI::App& command, std::vector<std::string> words);

// The known flag that `typed` most likely meant; empty when none is near.
std::string nearest_flag(const CLI::App& command, const std::string& typed);

}  // namespace lockstep::cli
