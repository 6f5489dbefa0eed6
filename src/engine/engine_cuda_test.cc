// A model end to end on a CUDA device: with graphs and without, beside the CPU.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "device/registry.h"
#include "engine/engine.h"

namespace lockstep {
namespace {

struct Told {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
};

struct Case {
  std::string_view model;  // of tests/golden, or the storyteller
  ComputeDType dtype;
};
std::ostream& operator<<(std::ostream& out, const Case& given) {
  return out << given.model << (given.dtype == ComputeDType::kFloat32 ? " f32" : " bf16");
}

// Rows of block-sparse models choose among pages of 64 tokens, in sequences that are longer in proportion.
int32_t page_size_of(const Case& given) { return given.model == "minicpm_sala" ? 64 : 16; }

EngineConfig config_of(std::string_view device, const Case& given) {
  EngineConfig config;
  config.model.path =
      concat(LOCKSTEP_SOURCE_DIR, given.model == "storyteller" ? "/models/" : "/tests/golden/", given.model);
  config.model.dtype = given.dtype;
  config.device = device;
  config.threads = 2;
  config.max_num_seqs = 12;
  config.page_size = page_size_of(given);
  config.chunk_size = 24;  // the longer prompts come in chunks
  config.num_pages = 200;
  config.max_model_len = 20 * config.page_size;
  return config;
}

// Requests of ragged lengths, greedy and drawn in every way.
std::vector<Request> requests(int32_t stretch) {
  std::vector<Request> all;
  for (int32_t i = 0; i < 12; ++i) {
    Request request{.max_tokens = 20 + 5 * i, .temperature = 0, .logprobs = 2, .ignore_eos = true};
    for (int32_t t = 0; t < 1 + 7 * i * stretch; ++t) request.prompt_ids.push_back((31 * i + 17 * t) % 128);
    if (i % 4 == 1) request.temperature = 0.8f;
    if (i % 4 == 2) request.temperature = 1.0f, request.top_k = 20, request.min_p = 0.01f;
    if (i % 4 == 3) request.temperature = 1.2f, request.top_p = 0.9f, request.repetition_penalty = 1.1f;
    request.seed = static_cast<uint64_t>(100 + i);
    all.push_back(request);
  }
  return all;
}

// Tokens of each request, by id. Also how many steps were replayed: none where `eagerly`, with the same
// buckets.
std::map<uint64_t, Told> tell(const EngineConfig& config, int64_t& replays, bool eagerly = false) {
  Result<std::unique_ptr<Engine>> made = Engine::create(config);
  EXPECT_EQ(made.status().message(), "");
  std::map<uint64_t, Told> told;
  if (!made.ok()) return told;
  Engine& engine = **made;
  if (eagerly) engine.executor().runner().set_eager("compared with graphs");
  for (const GraphOutcome& graph : engine.graphs()) EXPECT_EQ(graph.status.message(), "") << graph.size;
  for (const Request& request : requests(config.page_size / 16)) EXPECT_TRUE(engine.add(request).ok());
  while (engine.has_work()) {
    for (const RequestOutput& output : engine.step()) {
      EXPECT_EQ(output.error, "");
      Told& of = told[output.id];
      of.tokens.insert(of.tokens.end(), output.tokens.begin(), output.tokens.end());
      for (const TokenLogprobs& token : output.logprobs) of.logprobs.push_back(token.logprob);
    }
  }
  replays = engine.runner().replays();
  return told;
}

class EngineOnCuda : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const Result<DevicePtr> opened = open_device("cuda");
    if (!opened.ok()) GTEST_SKIP() << opened.status().message();
  }
};

TEST_P(EngineOnCuda, SaysTheSameWithGraphsAndWithout) {
  EngineConfig config = config_of("cuda", GetParam());
  config.graph_sizes = {12};
  int64_t replayed = 0, none = 0;
  const std::map<uint64_t, Told> graphs = tell(config, replayed);
  const std::map<uint64_t, Told> eager = tell(config, none, true);

  EXPECT_GT(replayed, none + 50);
  ASSERT_EQ(graphs.size(), 12u);
  for (const auto& [id, told] : graphs) {
    EXPECT_EQ(told.tokens, eager.at(id).tokens) << "request " << id;
    EXPECT_EQ(told.logprobs, eager.at(id).logprobs) << "request " << id;  // bit for bit
  }
}

// In bf16 near ties may fall either way.
class EngineInF32OnCuda : public EngineOnCuda {};

TEST_P(EngineInF32OnCuda, SaysWhatTheCpuSays) {
  int64_t replayed = 0;
  const std::map<uint64_t, Told> gpu = tell(config_of("cuda", GetParam()), replayed);
  const std::map<uint64_t, Told> cpu = tell(config_of("cpu", GetParam()), replayed);

  double largest = 0;
  for (const auto& [id, told] : cpu) {
    EXPECT_EQ(told.tokens, gpu.at(id).tokens) << "request " << id;
    for (size_t i = 0; i < told.logprobs.size() && i < gpu.at(id).logprobs.size(); ++i)
      largest = std::max(largest, std::abs(double{told.logprobs[i]} - double{gpu.at(id).logprobs[i]}));
  }
  RecordProperty("largest_logprob_difference", std::to_string(largest));
  EXPECT_LT(largest, 1e-4);
}

TEST_P(EngineOnCuda, RefusesWhatTheDeviceDoesNotDo) {
  EngineConfig config = config_of("cuda", GetParam());
  config.isa = "avx2";
  EXPECT_EQ(Engine::create(config).status().message(),
            "engine: --isa is asked for on device cuda; expected it on device cpu alone; leave it out, or "
            "use --device cpu");
}

std::vector<Case> cases(std::initializer_list<ComputeDType> dtypes) {
  std::vector<Case> all;
  for (const std::string_view model : {"llama", "llama_yarn", "minicpm_sala", "minimax_m2", "qwen3",
                                       "qwen3_5", "qwen3_5_moe", "qwen3_moe", "qwen3_next", "storyteller"}) {
    for (const ComputeDType dtype : dtypes) all.push_back({model, dtype});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Models, EngineOnCuda,
                         ::testing::ValuesIn(cases({ComputeDType::kFloat32, ComputeDType::kBFloat16})));
INSTANTIATE_TEST_SUITE_P(Models, EngineInF32OnCuda, ::testing::ValuesIn(cases({ComputeDType::kFloat32})));

}  // namespace
}  // namespace lockstep
