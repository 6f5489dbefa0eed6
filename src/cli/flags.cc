#include "cli/flags.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "engine/find_model.h"

namespace lockstep::cli {
namespace {

// LOCKSTEP_MAX_NUM_SEQS for --max-num-seqs.
std::string variable_of(const std::string& flag) {
  std::string name = "LOCKSTEP_";
  for (const char c : flag)
    name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

bool typed(const CLI::Option& option, const std::vector<std::string>& words) {
  return std::any_of(words.begin(), words.end(), [&option](const std::string& word) {
    const std::string name = word.substr(0, word.find('='));
    return word.starts_with("-") && option.check_name(name);
  });
}

Result<std::vector<CLI::ConfigItem>> read_config_file(const std::string& path) {
  std::ifstream file(path);
  if (!file) return error(Code::kNotFound, "--config: ", path, " cannot be read; expected a TOML file");
  try {
    return CLI::ConfigTOML().from_config(file);
  } catch (const CLI::Error& failure) {
    return error(Code::kInvalidArgument, "--config: ", path, ": ", failure.what(),
                 "; expected lines of name = value");
  }
}

void append(const std::string& flag, const std::vector<std::string>& values, bool is_switch,
            std::vector<std::string>& words) {
  for (const std::string& value : values) {
    if (!is_switch) {
      words.push_back("--" + flag + "=" + value);
    } else if (value == "true" || value == "1") {
      words.push_back("--" + flag);
    }
  }
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

}  // namespace

void add_engine_flags(CLI::App& command, EngineFlags& flags) {
  EngineConfig& c = flags.config;
  const auto group = [](CLI::Option* option) { option->group("Engine"); };
  group(command.add_option(
      "-m,--model", flags.model,
      "Folder, org/name in the Hugging Face cache, or with --load-format dummy a built-in config "
      "name. Default: the storyteller"));
  group(command.add_option("--dtype", flags.dtype, "How numbers are held: auto follows the checkpoint")
            ->check(CLI::IsMember({"auto", "float32", "bfloat16", "float16"}))
            ->capture_default_str());
  group(command.add_option("--device", flags.device, "Where to compute")
            ->check(CLI::IsMember({"cpu"}))
            ->capture_default_str());
  group(command.add_option("--load-format", flags.load_format, "safetensors, or dummy for random weights")
            ->check(CLI::IsMember({"auto", "safetensors", "dummy"}))
            ->capture_default_str());
  group(command.add_option("--threads", c.threads, "Threads; 0: all CPUs")->capture_default_str());
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
  group(command.add_option("--isa", c.isa,
                           "reference, avx2, avx512 or avx512bf16; default: the best this CPU has"));
  group(command.add_option("--seed", c.model.seed, "Of dummy weights and of draws")->capture_default_str());
}

Result<EngineConfig> engine_config(const EngineFlags& flags) {
  EngineConfig config = flags.config;
  const bool dummy = flags.load_format == "dummy";
  config.model.format = dummy ? LoadFormat::kDummy : LoadFormat::kSafetensors;
  config.model.path = dummy && !flags.model.empty() ? flags.model : LS_TRY(find_model(flags.model));
  if (flags.dtype == "float32") config.model.dtype = ComputeDType::kFloat32;
  if (flags.dtype == "bfloat16") config.model.dtype = ComputeDType::kBFloat16;
  if (flags.dtype == "float16") config.model.dtype = ComputeDType::kFloat16;
  return config;
}

Result<std::vector<std::string>> complete_arguments(const CLI::App& command, std::vector<std::string> words) {
  std::vector<CLI::ConfigItem> file;
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i].starts_with("--config=")) file = LS_TRY(read_config_file(words[i].substr(9)));
    if (words[i] == "--config" && i + 1 < words.size()) file = LS_TRY(read_config_file(words[i + 1]));
  }
  for (const CLI::ConfigItem& item : file) {
    if (command.get_option_no_throw("--" + item.name) == nullptr) {
      return error(Code::kInvalidArgument, "--config: ", item.name, " is no flag of ", command.get_name(),
                   "; nearest: ", nearest_flag(command, "--" + item.name));
    }
  }
  const std::vector<std::string> typed_words = words;
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_lnames().empty() || typed(*option, typed_words)) continue;
    const std::string& flag = option->get_lnames().front();
    if (flag == "help" || flag == "config") continue;
    const bool is_switch = option->get_items_expected_max() == 0;
    if (const char* value = std::getenv(variable_of(flag).c_str())) {
      append(flag, {value}, is_switch, words);
      continue;
    }
    for (const CLI::ConfigItem& item : file) {
      if (option->check_name("--" + item.name)) append(flag, item.inputs, is_switch, words);
    }
  }
  return words;
}

std::string nearest_flag(const CLI::App& command, const std::string& typed_flag) {
  const std::string name = typed_flag.substr(0, typed_flag.find('='));
  std::string best;
  size_t least = name.size();  // further away than that is no likeness
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& known : option->get_lnames()) {
      const size_t distance = edit_distance(name, "--" + known);
      if (distance < least) {
        least = distance;
        best = "--" + known;
      }
    }
  }
  return best;
}

}  // namespace lockstep::cli
