// What a fault leaves behind: a record that is the same in every run but for times, holds the rerun, and that
// explain reads.
#include <gtest/gtest.h>

#include <algorithm>

#include "../support/engines.h"
#include "../support/golden_file.h"
#include "../support/model_folder.h"
#include "explain/explain.h"

namespace lockstep::testing {
namespace {

EngineConfig config_in(const std::string& model, const std::string& folder) {
  EngineConfig config = small_config(model);
  config.max_num_seqs = 4;
  config.max_model_len = 100;
  config.record_dir = folder;
  return config;
}

std::vector<std::filesystem::path> records_in(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> found;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    if (file.path().extension() == ".record") found.push_back(file.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::string everything_but_times(Engine& engine) {
  Record record = engine.records().snapshot();
  EXPECT_GT(record.steps.size(), 10u);
  record.times.clear();
  return record_bytes(record).value();
}

TEST(Records, OfTwoRunsAreTheSameButForTimes) {
  std::vector<std::string> records;
  for (int run = 0; run < 2; ++run) {
    const auto engine = make_engine(config_in(golden_folder("qwen3_next"), ""));
    ASSERT_NE(engine, nullptr);
    for (const int32_t length : {5, 17, 40}) {
      std::vector<int32_t> prompt(static_cast<size_t>(length));
      for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<int32_t>((i * 7 + 3) % 200);
      ASSERT_TRUE(engine->add(greedy(prompt, 20)).ok());
    }
    run_to_end(*engine);
    records.push_back(everything_but_times(*engine));
  }
  EXPECT_EQ(records[0], records[1]);
}

// One NaN in the output projection of layer 2: the record must lead there.
TEST(Records, OfAFaultLeadToTheLaunchThatMadeTheFirstNan) {
  const ModelFolder model(golden_folder("qwen3_next"));
  model.poison("model.layers.2.self_attn.o_proj.weight", 5);
  const auto engine = make_engine(config_in(model.path(), model.path()));
  ASSERT_NE(engine, nullptr);
  const uint64_t id = *engine->add(greedy({1, 2, 3, 4, 5}, 8));

  const std::vector<RequestOutput> outputs = engine->step();

  ASSERT_EQ(outputs.size(), 1u);
  EXPECT_EQ(outputs[0].id, id);
  ASSERT_NE(outputs[0].failure.fault(), nullptr);
  EXPECT_EQ(outputs[0].failure.fault()->check, "N0");
  const auto files = records_in(model.path());
  ASSERT_EQ(files.size(), 1u);
  EXPECT_NE(outputs[0].error.find(files[0].filename().string()), std::string::npos) << outputs[0].error;

  const Record record = read_record(files[0].string()).value();
  ASSERT_EQ(record.first_bad_launch.size(), 1u);
  const FirstBadLaunch& first = record.first_bad_launch[0];
  EXPECT_EQ(first.at.layer, 2);
  EXPECT_EQ(first.at.stage, "o_proj");
  EXPECT_EQ(first.source, Seen::kRerun);
  ASSERT_EQ(record.rerun.size(), 1u);
  EXPECT_EQ(record.rerun[0].reproduced, Verdict::kYes);
  EXPECT_EQ(record.rerun[0].cache_clean, Verdict::kYes);
  const std::string text = explanation_text(explain(record, {}).value(), "a.record");
  EXPECT_NE(text.find("layer 2 (softmax), o_proj, linear was the first to give numbers that are not"),
            std::string::npos)
      << text;
}

// The same fault on a GPU, recorded there: device_cuda_test writes the file where LOCKSTEP_KEEP_RECORD says.
TEST(Records, OfAGpuAreExplainedWhereThereIsNone) {
  const std::string file = LOCKSTEP_SOURCE_DIR "/tests/records/of_a_gpu.record";
  const Result<Record> record = read_record(file);
  ASSERT_TRUE(record.ok()) << record.status().message();
  const std::string text = explanation_text(explain(*record, {}).value(), "a.record");
  for (const std::string_view part :
       {"on NVIDIA H200, 132 multiprocessors", "logits[0] is 259 NaN or infinite numbers",
        "layer 2 (softmax), o_proj, linear was the first to give numbers that are not", "5 live rows (0..4)",
        "its inputs were clean", "is the plan valid? yes", "the CPU oracle gives the same"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
}

TEST(Records, AreKeptOfTheFirstFaultsOnly) {
  const ModelFolder model(golden_folder("qwen3"));
  model.poison("model.embed_tokens.weight", 11 * 48);
  const auto engine = make_engine(config_in(model.path(), model.path()));
  ASSERT_NE(engine, nullptr);
  for (int32_t i = 0; i < 8; ++i) {
    ASSERT_TRUE(engine->add(greedy({11, i}, 4)).ok());
    const std::vector<RequestOutput> outputs = engine->step();
    ASSERT_EQ(outputs.size(), 1u);
    EXPECT_NE(outputs[0].failure.fault(), nullptr);
  }
  EXPECT_EQ(records_in(model.path()).size(), 4u);
  EXPECT_TRUE(engine->idle());
}

// As a control thread does for a rank that does not come back.
TEST(Records, OfAStuckEngineAreWrittenFromOutside) {
  const ModelFolder model(golden_folder("qwen3"));
  const auto engine = make_engine(config_in(model.path(), model.path()));
  ASSERT_NE(engine, nullptr);
  ASSERT_TRUE(engine->add(greedy({1, 2, 3}, 8)).ok());
  engine->step();
  for (const int32_t missing : {0, 1}) {
    const Fault fault{
        .check = "G1", .moment = Moment::kGroup, .field = "participation", .rank = missing, .step = 9};
    const Result<std::string> path =
        engine->records().write_stuck({Code::kDevice, "it is stuck", std::make_shared<const Fault>(fault)});
    ASSERT_TRUE(path.ok()) << path.status().message();
    EXPECT_TRUE(path->ends_with("/lockstep-0-9.record")) << *path;
    const Record record = read_record(*path).value();
    ASSERT_EQ(record.faults.size(), 1u);
    EXPECT_EQ(record.faults[0].message, "it is stuck");
    EXPECT_EQ(record.faults[0].told, missing == 1) << "by a watch over the ranks";
  }
}

TEST(Records, CanBeAskedForAtAnyTime) {
  const ModelFolder model(golden_folder("qwen3"));
  const auto engine = make_engine(config_in(model.path(), model.path()));
  ASSERT_NE(engine, nullptr);
  ASSERT_TRUE(engine->add(greedy({1, 2, 3}, 8)).ok());
  engine->step();
  const Result<std::string> path = engine->records().request();
  ASSERT_TRUE(path.ok()) << path.status().message();
  const Record record = read_record(*path).value();
  EXPECT_TRUE(record.faults.empty());
  EXPECT_TRUE(explain(record, {}).ok());
}

}  // namespace
}  // namespace lockstep::testing
