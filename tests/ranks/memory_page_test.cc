// The tables of docs/parallelism.md: what each rank of a layout holds, from the code that `inspect` asks.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "diag/table.h"
#include "engine/facts.h"

namespace lockstep {
namespace {

constexpr std::string_view kBegin = "<!-- ranks_test memory -->\n";
constexpr std::string_view kEnd = "<!-- end of ranks_test memory -->\n";

struct Layout {
  std::string_view flags;
  MeshShape shape;
};
constexpr Layout kDense[] = {{"one rank", {}},        {"`--tp 2`", {.tp = 2}},
                             {"`--tp 4`", {.tp = 4}}, {"`--tp 8`", {.tp = 8}},
                             {"`--dp N`", {.dp = 2}}, {"`--tp 2 --dp N`", {.tp = 2, .dp = 2}},
                             {"`--cp 2`", {.cp = 2}}, {"`--cp 8`", {.cp = 8}}};
constexpr Layout kExperts[] = {{"one rank", {}},
                               {"`--tp 2`", {.tp = 2}},
                               {"`--tp 8`", {.tp = 8}},
                               {"`--dp N`", {.dp = 2}},
                               {"`--dp 2 --ep`", {.dp = 2, .expert_parallel = true}},
                               {"`--tp 2 --dp 2 --ep`", {.tp = 2, .dp = 2, .expert_parallel = true}},
                               {"`--dp 8 --ep`", {.dp = 8, .expert_parallel = true}},
                               {"`--tp 8 --dp 8 --ep`", {.tp = 8, .dp = 8, .expert_parallel = true}},
                               {"`--cp 2`", {.cp = 2}},
                               {"`--cp 8`", {.cp = 8}}};

// Eight sequences of 4096 tokens, so that figures do not depend on the machine.
EngineConfig config_of(std::string_view model, const MeshShape& shape) {
  EngineConfig config;
  config.model = {.path = std::string(model), .format = LoadFormat::kDummy};
  config.parallel = shape;
  config.threads = 2;
  config.isa = "reference";
  config.max_model_len = 4096;
  config.max_num_seqs = 8;
  config.num_pages = 8 * 4096 / 64;
  return config;
}

std::string bytes(int64_t count) { return count == 0 ? "-" : bytes_text(static_cast<double>(count)); }

std::string table_of(std::string_view model, std::span<const Layout> layouts) {
  std::string text =
      concat("\n**", model,
             "**\n\n| ranks | weights | caches | states | activations | all | KV of a token |\n"
             "|---|---|---|---|---|---|---|\n");
  for (const Layout& layout : layouts) {
    const Result<ModelFacts> facts = model_facts(config_of(model, layout.shape));
    EXPECT_TRUE(facts.ok()) << facts.status().message();
    if (!facts.ok()) continue;
    const MemoryFacts& memory = facts->memory;
    text += concat("| ", layout.flags, " | ", bytes(memory.weights_total), " | ",
                   bytes(memory.pages + memory.page_tables), " | ", bytes(memory.states), " | ",
                   bytes(memory.activations), " | ", bytes(memory.total), " | ", bytes(memory.kv_per_token),
                   " |\n");
  }
  return text;
}

std::string tables() {
  std::string text;
  for (const std::string_view model : {"qwen3-0.6b", "qwen3-8b"}) text += table_of(model, kDense);
  for (const std::string_view model : {"qwen3-30b-a3b", "qwen3-next-cut-cpu", "qwen3-next-cut-gpu"})
    text += table_of(model, kExperts);
  return text + "\n";
}

// The text around the part between the two marks.
struct Around {
  std::string before, within, after;
};
Around split(const std::string& text) {
  const size_t begin = std::min(text.find(kBegin), text.size() - kBegin.size()) + kBegin.size();
  const size_t end = std::min(text.find(kEnd, begin), text.size());
  return {text.substr(0, begin), text.substr(begin, end - begin), text.substr(end)};
}

TEST(MemoryPage, SaysWhatEachRankHolds) {
  const std::string path = LOCKSTEP_SOURCE_DIR "/docs/parallelism.md";
  std::stringstream file;
  file << std::ifstream(path).rdbuf();
  Around page = split(file.str());
  ASSERT_TRUE(page.after.starts_with(kEnd)) << path << " has no marks";
  const std::string printed = tables();
  if (std::getenv("LOCKSTEP_PRINT_DOCS") != nullptr) {
    page.within = printed;
    std::ofstream(path) << page.before << page.within << page.after;
  }
  EXPECT_EQ(page.within, printed) << "docs/parallelism.md is old; print it anew with LOCKSTEP_PRINT_DOCS=1";
}

}  // namespace
}  // namespace lockstep
