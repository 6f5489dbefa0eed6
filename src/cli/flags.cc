#include "cli/flags.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "engine/find_model.h"
#include "engine/rank_part.h"

namespace lockstep::cli {
namespace {

// LOCKSTEP_MAX_NUM_SEQS for --max-num-seqs.
std::string variable_of(const std::string& flag) {
  std::string name = "LOCKSTEP_";
  for (const char c : flag)
    name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

Result<std::vector<CLI::ConfigItem>> read_config_file(const std::string& path) {
  std::error_code ignored;
  std::ifstream file(path);
  if (!file || std::filesystem::is_directory(path, ignored)) {
    return error(Code::kNotFound, "--config: ", path, " cannot be read; expected a TOML file");
  }
  try {
    return CLI::ConfigTOML().from_config(file);
  } catch (const CLI::Error& failure) {
    return error(Code::kInvalidArgument, "--config: ", path, ": ", failure.what(),
                 "; expected lines of name = value");
  }
}

// The items of a config file that concern `command`: those above any section, which it must know, and those
// in its own section.
Result<std::vector<CLI::ConfigItem>> read_config(const CLI::App& command, const std::string& path) {
  std::vector<CLI::ConfigItem> mine;
  for (CLI::ConfigItem& item : LS_TRY(read_config_file(path))) {
    const bool marks_section = item.name == "++" || item.name == "--";  // what CLI11 puts around sections
    if (marks_section || (!item.parents.empty() && item.parents != std::vector{command.get_name()})) continue;
    if (command.get_option_no_throw("--" + item.name) == nullptr) {
      return error(Code::kInvalidArgument, "--config: ", item.name, " in ", path, " is no flag of ",
                   command.get_name(), "; the nearest is ", nearest_flag(command, "--" + item.name));
    }
    mine.push_back(std::move(item));
  }
  return mine;
}

// The number of single-character changes between two words.
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

// The option that a message of CLI11 names first; null when it names none.
const CLI::Option* option_in(const CLI::App& command, const std::string& message) {
  const CLI::Option* found = nullptr;
  size_t first = std::string::npos;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      const size_t at = message.find("--" + name);
      const size_t end = at + 2 + name.size();
      const bool whole = end >= message.size() ||
                         (std::isalnum(static_cast<unsigned char>(message[end])) == 0 && message[end] != '-');
      if (at >= first || !whole) continue;
      first = at;
      found = option;
    }
  }
  return found;
}

// What an option takes, in words.
std::string expectation(const CLI::Option& option) {
  std::string type = option.get_type_name();
  if (const size_t set = type.find(":{"); set != std::string::npos)
    return "one of " + type.substr(set + 2, type.size() - set - 3);
  if (option.get_items_expected_max() == 0) return "true or false";
  if (type == "INT") return "a whole number of at most 2147483647";
  if (type == "UINT") return "a whole number from 0 on";
  if (type == "FLOAT") return "a number";
  if (type == kListType) return "whole numbers with commas between them";
  return "a text";
}

// Of ranks and their threads.
void add_rank_flags(CLI::App& command, EngineConfig& c) {
  MeshShape& p = c.parallel;
  const auto group = [](CLI::Option* option) { option->group("Engine"); };
  group(command
            .add_option("--threads", c.threads, "Threads of a rank; 0: all CPUs, shared by the host's ranks")
            ->capture_default_str());
  group(command.add_option("--tensor-parallel-size,--tp", p.tp, "Ranks that share every layer")
            ->capture_default_str());
  group(command.add_option("--data-parallel-size,--dp", p.dp, "Replicas with requests of their own")
            ->capture_default_str());
  group(command.add_option("--context-parallel-size,--cp", p.cp, "Ranks that share the rows of prompts")
            ->capture_default_str());
  group(command.add_flag("--enable-expert-parallel,--ep", p.expert_parallel,
                         "Whole experts to the tp * dp ranks; else each expert is cut into tp parts"));
}

// Of other ways to compute.
void add_mode_flags(CLI::App& command, EngineConfig& c) {
  command
      .add_flag("--dense-as-sparse", c.model.dense_as_sparse,
                "Block-sparse layers choose their keys whatever the length of the prompt")
      ->group("Engine");
  command.add_flag("--enforce-eager", c.enforce_eager, "No padding, no graphs")->group("Engine");
  command
      .add_flag_callback(
          "--no-async-scheduling", [&c] { c.overlap = Overlap::kNever; },
          "Plan each step when the one before has ended, not while the device is at it")
      ->group("Engine");
  command
      .add_flag("--batch-invariant", c.batch_invariant,
                "A row has the same bits whatever shares its batch: always on the CPU, slower prompts and "
                "experts elsewhere")
      ->group("Engine");
}

}  // namespace

void add_engine_flags(CLI::App& command, EngineFlags& flags) {
  EngineConfig& c = flags.config;
  c.record_dir = ".";
  const auto group = [](CLI::Option* option) { option->group("Engine"); };
  group(command.add_option(
      "-m,--model", flags.model,
      "Folder, org/name in the Hugging Face cache, or with --load-format dummy a built-in config "
      "name. Default: the storyteller"));
  group(command.add_option("--dtype", flags.dtype, "How numbers are held: auto follows the checkpoint")
            ->check(CLI::IsMember({"auto", "float32", "bfloat16", "float16"}))
            ->capture_default_str());
  group(command
            .add_option("--device", c.device,
                        "Where to compute: cpu, cuda, cuda:N, or for several ranks cuda:N,M")
            ->capture_default_str());
  group(command.add_option("--load-format", flags.load_format, "safetensors, or dummy for random weights")
            ->check(CLI::IsMember({"auto", "safetensors", "dummy"}))
            ->capture_default_str());
  add_rank_flags(command, c);
  group(command
            .add_option("--max-model-len", c.max_model_len,
                        "Tokens of one sequence; 0: what the model was made for")
            ->capture_default_str());
  group(command.add_option("--max-num-seqs", c.max_num_seqs, "Sequences that run at once")
            ->capture_default_str());
  group(command.add_option("--max-num-batched-tokens", c.max_num_batched_tokens, "Rows of one step")
            ->capture_default_str());
  group(command.add_option("--chunk-size", c.chunk_size, "Rows of a prompt chunk")->capture_default_str());
  group(command.add_option("--page-size,--block-size", c.page_size, "Tokens of a cache page")
            ->capture_default_str());
  group(command.add_option("--num-pages", c.num_pages, "Cache pages; 0: by free memory")
            ->capture_default_str());
  group(
      command
          .add_option("--num-state-slots", c.num_state_slots, "Recurrent states; 0: one per running sequence")
          ->capture_default_str());
  group(command.add_option("--kv-layout", c.kv_layout, "apart|interleaved / token|head|shuffled8 [/ shared]")
            ->capture_default_str());
  group(command
            .add_option("--graph-sizes", c.graph_sizes,
                        "Decode steps are padded to these and replayed; default: 1, 2, 4, 8, 16, ...")
            ->delimiter(',')
            ->type_name(kListType));
  add_mode_flags(command, c);
  group(command
            .add_option("--record-dir", c.record_dir,
                        "Folder for the record that a fault leaves, and SIGUSR1; empty: none")
            ->capture_default_str());
  group(
      command.add_option("--guard", flags.guard, "How much is checked: the plan, every replay, every launch")
          ->check(CLI::IsMember({"plan", "replay", "full"}))
          ->capture_default_str());
  group(command.add_option("--isa", c.isa,
                           "reference, avx2, avx512 or avx512bf16; default: the best this CPU has"));
  // CLI11 would take -1 for the largest number.
  const auto negative = [](const std::string& text) { return text.starts_with('-') ? "negative" : ""; };
  group(command.add_option("--seed", c.model.seed, "Of dummy weights and of draws")
            ->check(negative)
            ->capture_default_str());
}

Result<EngineConfig> engine_config(const EngineFlags& flags) {
  EngineConfig config = flags.config;
  LS_TRY(check_parallel(config.parallel));
  const bool dummy = flags.load_format == "dummy";
  config.model.format = dummy ? LoadFormat::kDummy : LoadFormat::kSafetensors;
  config.model.path = dummy && !flags.model.empty() ? flags.model : LS_TRY(find_model(flags.model));
  if (const std::optional<LaunchedRank> rank = this_rank(); rank && config.parallel.world() > 1)
    config.device = LS_TRY(device_of_rank(config.device, *rank));
  config.ranks_on_host = ranks_on_host(config.parallel.world());
  if (config.threads == 0) config.threads = share_of_threads(config.ranks_on_host);
  if (const std::optional<LaunchedRank> rank = this_rank(); rank && rank->size > 1 && rank->rank == 0) {
    std::fprintf(stderr, "lockstep: %d ranks (tp %d, dp %d, cp %d), %d threads each\n",
                 config.parallel.world(), config.parallel.tp, config.parallel.dp, config.parallel.cp,
                 config.threads);
  }
  if (flags.guard == "plan") config.guard = GuardLevel::kPlan;
  if (flags.guard == "full") config.guard = GuardLevel::kFull;
  if (flags.dtype == "float32") config.model.dtype = ComputeDType::kFloat32;
  if (flags.dtype == "bfloat16") config.model.dtype = ComputeDType::kBFloat16;
  if (flags.dtype == "float16") config.model.dtype = ComputeDType::kFloat16;
  return config;
}

Result<std::vector<std::string>> words_not_typed(const CLI::App& command) {
  std::vector<CLI::ConfigItem> file;
  const CLI::Option* config = command.get_option_no_throw("--config");
  if (config != nullptr && config->count() > 0)
    file = LS_TRY(read_config(command, config->results().front()));
  std::vector<std::string> words;
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_lnames().empty() || option->count() > 0) continue;
    const std::string& flag = option->get_lnames().front();
    if (flag == "help" || flag == "config") continue;
    if (const char* value = std::getenv(variable_of(flag).c_str())) {
      words.push_back(concat("--", flag, "=", value));
      continue;
    }
    for (const CLI::ConfigItem& item : file) {
      if (!option->check_name("--" + item.name)) continue;
      for (const std::string& value : item.inputs) words.push_back(concat("--", flag, "=", value));
    }
  }
  return words;
}

std::string nearest_word(const std::vector<std::string>& known, const std::string& typed) {
  std::string best;
  size_t least = typed.size();  // further away than that is no likeness
  for (const std::string& word : known) {
    const size_t distance = edit_distance(typed, word);
    if (distance >= least) continue;
    least = distance;
    best = word;
  }
  return best;
}

std::string nearest_flag(const CLI::App& command, const std::string& typed) {
  std::vector<std::string> flags;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
  }
  return nearest_word(flags, typed.substr(0, typed.find('=')));
}

std::string explain(const CLI::App& command, const CLI::ParseError& failure) {
  const CLI::Option* option = option_in(command, failure.what());
  if (option == nullptr) return failure.what();
  const std::string flag = "--" + option->get_lnames().front();
  const std::vector<std::string> values = option->results();
  if (values.empty()) return concat(flag, " has no value; expected ", expectation(*option));
  if (failure.get_name() == "ArgumentMismatch" && values.size() > 1)
    return concat(flag, " is given ", values.size(), " times; expected once");
  std::string given;
  for (const std::string& value : values) given += (given.empty() ? "" : ",") + value;
  return concat(flag, " is ", given, "; expected ", expectation(*option));
}

}  // namespace lockstep::cli
