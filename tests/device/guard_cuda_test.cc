// The level full and the records of faults on a CUDA device.
#include <cstdlib>
#include <filesystem>

#include "device/on_cuda.h"
#include "explain/explain.h"

namespace lockstep::testing {
namespace {

struct Case {
  std::string model;
  ComputeDType dtype;
};
void PrintTo(const Case& given, std::ostream* out) {
  *out << given.model << (given.dtype == ComputeDType::kFloat32 ? " f32" : " bf16");
}

class GuardOnCuda : public OnCuda<::testing::TestWithParam<Case>> {};

// Every launch runs three times, over poisoned pads, pages of nobody and fresh outputs; no kernel takes
// notice, and what is drawn is what is drawn without.
TEST_P(GuardOnCuda, NoKernelReadsWhatMustNotEnterAtTheLevelFull) {
  EngineConfig config = cuda_config(golden_model(GetParam().model), GetParam().dtype);
  config.max_num_seqs = 8;
  config.max_model_len = 100;
  config.num_pages = 64;
  config.chunk_size = 24;
  config.graph_sizes = {4, 8};
  std::vector<TokensById> told;
  for (const GuardLevel level : {GuardLevel::kReplay, GuardLevel::kFull}) {
    config.guard = level;
    const auto engine = make_engine(config);
    ASSERT_NE(engine, nullptr);
    for (int32_t key = 0; key < 6; ++key) {
      Request request = greedy(prompt_of(1 + 9 * key, key, engine->model().spec.vocab), 6 + key);
      if (key % 2 == 1) request.temperature = 0.8f, request.top_p = 0.9f, request.repetition_penalty = 1.2f;
      if (key % 3 == 1) request.logprobs = 3;
      ASSERT_TRUE(engine->add(request).ok());
    }
    told.push_back(run_to_end(*engine).tokens);
    if (Guard* guard = engine->executor().guard()) {
      EXPECT_FALSE(guard->probe().launches().empty());
      EXPECT_TRUE(guard->probe().findings().empty());
    }
  }
  EXPECT_EQ(told[0], told[1]);
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const char* model :
       {"llama", "minimax_m2", "qwen3", "qwen3_5", "qwen3_5_moe", "qwen3_moe", "qwen3_next"}) {
    all.push_back({model, ComputeDType::kFloat32});
    all.push_back({model, ComputeDType::kBFloat16});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Models, GuardOnCuda, ::testing::ValuesIn(cases()));

class RecordsOnCuda : public OnCuda<::testing::Test> {};

// One NaN in the output projection of layer 2: the record leads there, and the rerun says what the kernels of
// the CPU make of it.
TEST_F(RecordsOnCuda, OfAFaultLeadToTheLaunchThatMadeTheFirstNan) {
  const ModelFolder model(golden_model("qwen3_next"));
  model.poison("model.layers.2.self_attn.o_proj.weight", 5);
  EngineConfig config = cuda_config(model.path(), ComputeDType::kFloat32);
  config.max_num_seqs = 4;
  config.max_model_len = 100;
  config.num_pages = 64;
  config.record_dir = model.path();
  const auto engine = make_engine(config);
  ASSERT_NE(engine, nullptr);
  ASSERT_TRUE(engine->add(greedy({1, 2, 3, 4, 5}, 8)).ok());

  const std::vector<RequestOutput> outputs = engine->step();

  ASSERT_EQ(outputs.size(), 1u);
  ASSERT_NE(outputs[0].failure.fault(), nullptr);
  EXPECT_EQ(outputs[0].failure.fault()->check, "N0");
  std::string file;
  for (const auto& entry : std::filesystem::directory_iterator(model.path())) {
    if (entry.path().extension() == ".record") file = entry.path().string();
  }
  if (const char* keep = std::getenv("LOCKSTEP_KEEP_RECORD"))  // tests/records/of_a_gpu.record is one
    std::filesystem::copy_file(file, keep, std::filesystem::copy_options::overwrite_existing);
  const Result<Record> record = read_record(file);
  ASSERT_TRUE(record.ok()) << record.status().message();
  EXPECT_TRUE(record->ranks.front().device.starts_with("NVIDIA")) << record->ranks.front().device;
  ASSERT_EQ(record->first_bad_launch.size(), 1u);
  EXPECT_EQ(record->first_bad_launch[0].at.layer, 2);
  EXPECT_EQ(record->first_bad_launch[0].at.stage, "o_proj");
  EXPECT_EQ(record->first_bad_launch[0].source, Seen::kRerun);
  ASSERT_EQ(record->rerun.size(), 1u);
  EXPECT_EQ(record->rerun[0].reproduced, Verdict::kYes);
  EXPECT_EQ(record->rerun[0].oracle_agrees, Verdict::kYes);  // the weight is as bad there
  EXPECT_EQ(record->rerun[0].f32_agrees, Verdict::kYes);
  EXPECT_EQ(record->rerun[0].notes, std::vector<std::string>());
}

// Forced tokens are scored from logits that lie on the device.
TEST_F(RecordsOnCuda, ScoresOfForcedTokensAreThoseOfTheCpu) {
  std::vector<float> scores[2];
  for (const char* device : {"cpu", "cuda"}) {
    EngineConfig config = cuda_config(golden_model("qwen3"), ComputeDType::kFloat32);
    config.device = device;
    config.num_pages = 64;
    config.max_model_len = 100;
    const auto engine = make_engine(config);
    ASSERT_NE(engine, nullptr);
    Request request = greedy({3, 1, 4}, 6);
    request.forced = {1, 5, 9, 2, 6, 5};
    ASSERT_TRUE(engine->add(request).ok());
    while (engine->has_work()) {
      for (const RequestOutput& output : engine->step()) {
        EXPECT_EQ(output.error, "");
        for (const TokenLogprobs& token : output.logprobs)
          scores[device == std::string("cuda") ? 1 : 0].push_back(token.logprob);
      }
    }
  }
  ASSERT_EQ(scores[0].size(), 6u);
  ASSERT_EQ(scores[1].size(), 6u);
  for (size_t i = 0; i < scores[0].size(); ++i) EXPECT_NEAR(scores[0][i], scores[1][i], 1e-4f) << i;
}

}  // namespace
}  // namespace lockstep::testing
