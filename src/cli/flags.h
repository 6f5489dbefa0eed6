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
  std::string load_format = "auto";
  std::string guard = "replay";
};

// Adds the flags of every command that makes an engine.
void add_engine_flags(CLI::App& command, EngineFlags& flags);
// The config that they mean. Errors: kNotFound for a model that is not there.
Result<EngineConfig> engine_config(const EngineFlags& flags);

// What a list of whole numbers is called in --help; error messages know it.
inline constexpr const char* kListType = "N,N,...";

// Words for those flags of a parsed command that were not typed, as LOCKSTEP_... variables and the file of
// --config give them: "--max-num-seqs=8". The environment wins over the file. Errors: kNotFound or
// kInvalidArgument for the file.
Result<std::vector<std::string>> words_not_typed(const CLI::App& command);

// The known word that `typed` most likely meant; empty when none is near.
std::string nearest_word(const std::vector<std::string>& known, const std::string& typed);
// The same among the flags of a command.
std::string nearest_flag(const CLI::App& command, const std::string& typed);

// What CLI11 refused, as a sentence: "--max-tokens is abc; expected a whole number of at most 2147483647".
std::string explain(const CLI::App& command, const CLI::ParseError& failure);

}  // namespace lockstep::cli
