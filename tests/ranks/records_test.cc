// What the ranks of a run leave behind when something goes wrong: a record each, that together say which rank
// it was.
#include <gtest/gtest.h>

#include <algorithm>

#include "../support/engines.h"
#include "../support/golden_file.h"
#include "../support/model_folder.h"
#include "engine/rank_records.h"
#include "explain/explain.h"
#include "rank_engines.h"

namespace lockstep::testing {
namespace {

constexpr MeshShape kFieldReport{.tp = 2, .dp = 2, .expert_parallel = true};
constexpr int32_t kWidth = 48;     // of the golden models
constexpr int32_t kBadToken = 11;  // whose embedding is not finite

RankedWorkload workload_in(const std::string& folder, std::initializer_list<std::vector<int32_t>> prompts) {
  RankedWorkload workload{.shape = kFieldReport,
                          .config = small_config(folder),
                          .requests = {},
                          .arrivals = {},
                          .of_rank = nullptr};
  workload.config.max_num_batched_tokens = 64;
  workload.config.chunk_size = 16;
  workload.config.max_num_seqs = 4;
  workload.config.max_model_len = 64;
  workload.config.enforce_eager = true;
  workload.config.record_dir = folder;
  for (const std::vector<int32_t>& prompt : prompts) workload.requests.push_back(greedy(prompt, 4));
  return workload;
}

// Of the only moment that is on record.
Explanation explained(const std::string& folder, size_t ranks) {
  const std::vector<RankRecordFiles> moments = rank_records_in(folder);
  EXPECT_EQ(moments.size(), 1u);
  if (moments.empty()) return {};
  EXPECT_EQ(moments[0].size(), ranks);
  const Result<std::vector<std::string>> merged = merge_rank_records(folder, {});
  EXPECT_TRUE(merged.ok()) << merged.status().message();
  Result<Record> record = read_records(merged.value());
  EXPECT_TRUE(record.ok()) << record.status().message();
  Result<Explanation> explanation = explain(*record, {});
  EXPECT_TRUE(explanation.ok()) << explanation.status().message();
  return *std::move(explanation);
}

// "answer [source]"
std::string said(const Explanation& explanation, std::string_view id) {
  for (const Answer& answer : explanation.answers) {
    if (answer.id == id) return concat(answer.answer, " [", name_of(answer.source), "]");
  }
  return "";
}

TEST(RecordsOfRanks, SayWhichRankWasFirstAndWhoOnlyReceived) {
  const ModelFolder model(golden_folder("qwen3_moe"));
  model.poison("model.embed_tokens.weight", kBadToken * kWidth);
  RankedWorkload workload = workload_in(model.path(), {{3, kBadToken, 5}, {6, 7, 8, 9}});
  workload.config.guard = GuardLevel::kFull;

  const RankedOutcome outcome = run_ranked(workload);

  EXPECT_EQ(outcome.errors.size(), 1u) << "the other replica's request goes on";
  const Explanation explanation = explained(model.path(), 4);
  EXPECT_EQ(said(explanation, "cause"),
            "rank 0 broke N0: step 1: N0 sampler: logits[0] is 259 NaN or infinite numbers; expected finite "
            "numbers; ranks 1, 2, 3 only followed [seen]");
  EXPECT_EQ(said(explanation, "first"),
            "rank 0, step 1, embedding was the first to give numbers that are not finite [seen]");
  const std::string received =
      " at step 1, layer 0 (moe), gather_rows, gather_rows_of_ranks, and its own rows stayed finite";
  EXPECT_EQ(
      said(explanation, "spread"),
      concat("yes: rank 1 received row 1 in a sum at step 1, embedding_sum, all_reduce; rank 2 received rows "
             "1, 2 of rank 0",
             received, "; rank 3 received rows 1, 2 of rank 1", received, " [seen]"));
  EXPECT_EQ(said(explanation, "plan"), "yes: every recorded plan keeps every rule [seen]");
}

TEST(RecordsOfRanks, SayWhoSaidSomethingElse) {
  const ModelFolder model(golden_folder("qwen3_moe"));
  RankedWorkload workload = workload_in(model.path(), {{3, 4, 5}, {6, 7, 8, 9}});
  workload.of_rank = [](int32_t rank, EngineConfig& config) {
    if (rank == 3) config.guard = GuardLevel::kPlan;
  };

  const RankedOutcome outcome = run_ranked(workload);

  EXPECT_EQ(outcome.errors.size(), 4u);
  const Explanation explanation = explained(model.path(), 4);
  const std::string who = said(explanation, "cause");
  EXPECT_TRUE(who.starts_with("rank 3 said something else: config is digest ")) << who;
  EXPECT_TRUE(who.ends_with(", as on rank 2; ranks 0, 1, 2 only followed [seen]")) << who;
  const std::string left = said(explanation, "ranks");
  EXPECT_NE(left.find("rank 2 never came; the last there was 1 [seen]"), std::string::npos) << left;
  const auto cause = std::find_if(explanation.answers.begin(), explanation.answers.end(),
                                  [](const Answer& answer) { return answer.id == "cause"; });
  EXPECT_NE(cause->listing.find("config"), std::string::npos) << cause->listing;
}

}  // namespace
}  // namespace lockstep::testing
