// Golden values on a CUDA device: what transformers computes in fp32, by prompts whole and in chunks and row
// by row in replayed graphs, at the bars of the CPU; and bf16, held to what the reference's own bf16 loses.
#include <algorithm>
#include <cmath>
#include <iostream>

#include "device/on_cuda.h"
#include "json/json.h"
#include "support/golden_file.h"

namespace lockstep::testing {
namespace {

constexpr double kRelativeError = 1e-4;  // of a logit, of the largest one

// Logits [V] of what comes after so many tokens of a sequence.
struct Row {
  size_t tokens = 0;
  std::vector<float> logits;
};

EngineConfig golden_config(const std::string& model, ComputeDType dtype, int32_t longest = 256) {
  EngineConfig config = cuda_config(golden_model(model), dtype);
  config.max_num_seqs = 24;
  config.max_model_len = longest;
  config.num_pages = 24 * config.max_model_len / config.page_size;
  config.graph_sizes = {1, 8};
  return config;
}

// Prompts that are the first `lengths` tokens, all at once.
std::vector<Row> by_prompts(const EngineConfig& config, const std::vector<int32_t>& ids,
                            const std::vector<size_t>& lengths) {
  const auto engine = make_engine(config);
  std::vector<Row> rows;
  if (engine == nullptr) return rows;
  std::vector<uint64_t> requests;
  for (const size_t length : lengths)
    requests.push_back(
        *engine->add(greedy({ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(length)}, 1)));
  Outcome run = run_to_end(*engine);
  for (size_t i = 0; i < lengths.size(); ++i)
    rows.push_back({lengths[i], std::move(run.logits[requests[i]].front())});
  return rows;
}

// From a prompt of 5 tokens on, one row a step, each but the first in a replayed graph.
std::vector<Row> by_steps(const EngineConfig& config, const std::vector<int32_t>& ids) {
  constexpr size_t kPrompt = 5;
  const auto engine = make_engine(config);
  std::vector<Row> rows;
  if (engine == nullptr) return rows;
  const int64_t proofs = engine->runner().replays();
  Request request = greedy({ids.begin(), ids.begin() + kPrompt}, static_cast<int32_t>(ids.size() - kPrompt));
  request.forced = {ids.begin() + kPrompt, ids.end()};
  const uint64_t id = *engine->add(request);
  Outcome run = run_to_end(*engine);
  EXPECT_EQ(engine->runner().replays() - proofs, static_cast<int64_t>(ids.size() - kPrompt) - 1);
  for (size_t i = 0; i < run.logits[id].size(); ++i)
    rows.push_back({kPrompt + i, std::move(run.logits[id][i])});
  EXPECT_EQ(rows.size(), ids.size() - kPrompt);
  return rows;
}

// Holds rows to golden ones, of which row i is what comes after i + 1 tokens; gives the largest error.
double compare(const std::vector<Row>& rows, const std::vector<float>& golden) {
  double largest = 0;
  for (const Row& row : rows) {
    const float* want = &golden[(row.tokens - 1) * row.logits.size()];
    double worst = 0, scale = 0;
    for (size_t v = 0; v < row.logits.size(); ++v) {
      const double error = std::abs(static_cast<double>(row.logits[v]) - want[v]);
      worst = std::isnan(error) ? HUGE_VAL : std::max(worst, error);
      scale = std::max(scale, std::abs(static_cast<double>(want[v])));
    }
    EXPECT_LE(worst / scale, kRelativeError) << "after " << row.tokens << " tokens";
    largest = std::max(largest, worst / scale);
  }
  return largest;
}

class GoldensOnCuda : public OnCuda<::testing::TestWithParam<const char*>> {};

TEST_P(GoldensOnCuda, LogitsAreThoseOfTransformersInPromptsChunksAndGraphs) {
  const GoldenFile file = GoldenFile::open(golden_model(GetParam()) + "/golden.safetensors");
  double largest = 0;
  for (const std::string name : {"long", "short"}) {
    const std::vector<int32_t> ids = file.token_ids(name + ".input_ids");
    const std::vector<float> golden = file.read<float>(name + ".logits");
    std::vector<size_t> lengths;
    for (const size_t length : {1, 2, 3, 15, 16, 17, 31, 36, 37, 63, 64, 65, 100, 127, 128, 129, 150})
      if (length <= ids.size()) lengths.push_back(length);
    EngineConfig config = golden_config(GetParam(), ComputeDType::kFloat32);
    for (const int32_t chunk : {512, 13}) {
      SCOPED_TRACE(concat(name, " in chunks of ", chunk));
      config.chunk_size = chunk;
      largest = std::max(largest, compare(by_prompts(config, ids, lengths), golden));
    }
    SCOPED_TRACE(name + " by steps");
    largest = std::max(largest, compare(by_steps(config, ids), golden));
  }
  std::cout << GetParam() << ": largest relative error " << largest << "\n";
}

std::vector<double> log_softmax(const float* logits, size_t count) {
  const double largest = *std::max_element(logits, logits + count);
  double sum = 0;
  for (size_t i = 0; i < count; ++i) sum += std::exp(logits[i] - largest);
  std::vector<double> out(count);
  for (size_t i = 0; i < count; ++i) out[i] = logits[i] - largest - std::log(sum);
  return out;
}

// KL(exact || other) of one row, nats.
double divergence(const float* exact, const float* other, size_t vocab) {
  const std::vector<double> p = log_softmax(exact, vocab), q = log_softmax(other, vocab);
  double kl = 0;
  for (size_t v = 0; v < vocab; ++v) kl += std::exp(p[v]) * (p[v] - q[v]);
  return kl;
}

TEST_P(GoldensOnCuda, InBf16NoMoreIsLostThanTheReferenceLoses) {
  const GoldenFile file = GoldenFile::open(golden_model(GetParam()) + "/golden.safetensors");
  const std::vector<int32_t> ids = file.token_ids("short.input_ids");
  const std::vector<float> exact = file.read<float>("short.logits");
  const std::vector<float> reference = file.read<float>("short.logits_bf16");
  const EngineConfig config = golden_config(GetParam(), ComputeDType::kBFloat16);
  double ours = 0, theirs = 0;
  const std::vector<Row> rows = by_steps(config, ids);
  for (const Row& row : rows) {
    const size_t vocab = row.logits.size(), at = (row.tokens - 1) * vocab;
    ours += divergence(&exact[at], row.logits.data(), vocab) / static_cast<double>(rows.size());
    theirs += divergence(&exact[at], &reference[at], vocab) / static_cast<double>(rows.size());
  }
  std::cout << GetParam() << ": bf16 against fp32: KL " << ours << " (transformers " << theirs << ")\n";
  EXPECT_GT(ours, 0);
  EXPECT_LE(ours, theirs);
}

INSTANTIATE_TEST_SUITE_P(Families, GoldensOnCuda,
                         ::testing::Values("qwen3", "qwen3_moe", "qwen3_next", "llama", "llama_yarn",
                                           "qwen3_5", "qwen3_5_moe", "minimax_m2", "minicpm_sala"),
                         [](const auto& family) { return std::string(family.param); });

class LongGoldensOnCuda : public OnCuda<::testing::Test> {};

// Prompts behind the length from which every row chooses the keys that it sees.
TEST_F(LongGoldensOnCuda, BlockSparseRowsChooseWhatTheReferenceChooses) {
  const GoldenFile file = GoldenFile::open(golden_model("minicpm_sala/sparse.safetensors"));
  const std::vector<int32_t> ids = file.token_ids("input_ids"), kept = file.token_ids("rows");
  const std::vector<float> logits = file.read<float>("sparse.logits");
  const size_t vocab = logits.size() / kept.size();
  std::vector<float> golden(ids.size() * vocab);
  std::vector<size_t> lengths;
  for (size_t i = 0; i < kept.size(); ++i) {
    const auto at = static_cast<size_t>(kept[i]);
    std::copy_n(logits.begin() + static_cast<std::ptrdiff_t>(i * vocab), vocab,
                golden.begin() + static_cast<std::ptrdiff_t>(at * vocab));
    if (at + 1 >= 260 && lengths.size() < 20) lengths.push_back(at + 1);
  }
  ASSERT_GT(lengths.size(), 5u);
  const EngineConfig config = golden_config("minicpm_sala", ComputeDType::kFloat32, 768);
  std::cout << lengths.size() << " prompts, largest relative error "
            << compare(by_prompts(config, ids, lengths), golden) << "\n";
}

TEST_F(LongGoldensOnCuda, TheStorytellerTellsTheTokensThatTransformersTells) {
  const Result<Json> golden = parse_json_file(golden_model("storyteller.json"));
  ASSERT_TRUE(golden.ok()) << golden.status().message();
  const auto engine = make_engine(cuda_config(storyteller_folder(), ComputeDType::kFloat32));
  ASSERT_NE(engine, nullptr);
  const auto ids_of = [](const Json& list) {
    const std::vector<int64_t> wide = *list.as_integers();
    return std::vector<int32_t>(wide.begin(), wide.end());
  };
  const Json cases = *golden->array("cases");
  std::vector<uint64_t> requests;
  for (const Json& one : cases)
    requests.push_back(*engine->add(
        greedy(ids_of(*one.array("prompt_ids")), static_cast<int32_t>(one.array("output_ids")->size()))));
  Outcome run = run_to_end(*engine);
  ASSERT_GE(cases.size(), 5u);
  for (size_t i = 0; i < cases.size(); ++i)
    EXPECT_EQ(run.tokens[requests[i]], ids_of(*cases[i].array("output_ids"))) << *cases[i].string("prompt");
}

}  // namespace
}  // namespace lockstep::testing
