// The example backends through the suite: the good one passes, the frozen ones never serve a wrong token.
#include <gtest/gtest.h>

#include <map>

#include "base/fault.h"
#include "conformance/conformance.h"

namespace lockstep::conformance {
namespace {

std::map<std::string, Status> results_of(const char* path) {
  const auto results = run_plugin_conformance(path);
  EXPECT_EQ(results.status().message(), "");
  std::map<std::string, Status> by_id;
  if (!results.ok()) return by_id;
  for (const CaseResult& result : *results) by_id.emplace(result.id, result.status);
  return by_id;
}

TEST(ExampleBackends, TheGoodOneConforms) {
  const auto results = results_of(LOCKSTEP_GOOD_BACKEND);
  EXPECT_EQ(results.size(), attention_cases(paged_candidate()).size());
  for (const auto& [id, status] : results) EXPECT_EQ(status.message(), "") << id;
}

TEST(ExampleBackends, OneThatReadsLengthsOnTheHostIsRightEagerlyAndRefusedByGraphs) {
  const auto results = results_of(LOCKSTEP_FROZEN_BACKEND);
  for (const char* id : {"conformance/frozen/layout_interleaved-head", "conformance/frozen/page_size_16",
                         "conformance/frozen/poison", "conformance/frozen/batch_mates"})
    EXPECT_EQ(results.at(id).message(), "") << id;
  const Status& graph = results.at("conformance/frozen/length_frozen_by_capture");
  EXPECT_EQ(graph.code(), Code::kUnimplemented);
  EXPECT_EQ(
      graph.message(),
      "graph of phase 1, num_rows_padded 1, num_seqs_padded 1, num_logits_rows_padded 0, max_query_len 1, "
      "uniform_query_len 1, cp_ranks 1, cp_rank 0: frozen reads seq_lens on the host; expected it by address "
      "or as a bound, so these steps run without a graph");
}

TEST(ExampleBackends, OneThatCallsAFrozenLengthABoundIsNamedAtTheFirstReplayThatDiffers) {
  const auto results = results_of(LOCKSTEP_FROZEN_BOUND_BACKEND);
  const Status& graph = results.at("conformance/frozen/length_frozen_by_capture");
  ASSERT_NE(graph.fault(), nullptr) << graph.message();
  EXPECT_EQ(
      graph.message(),
      "step 3: R2 frozen: seq_lens[0] is 97; expected at most 96, which the graph has captured by value");
  EXPECT_EQ(graph.fault()->moment, Moment::kReplay);
}

}  // namespace
}  // namespace lockstep::conformance
