// The storyteller's greedy text against transformers in fp32.
#include <gtest/gtest.h>

#include "../support/engines.h"
#include "../support/golden_file.h"
#include "json/json.h"

namespace lockstep::testing {
namespace {

std::vector<int32_t> ids_of(const Json& list) {
  const std::vector<int64_t> wide = *list.as_integers();
  return {wide.begin(), wide.end()};
}

TEST(Storyteller, TellsTheTokensThatTransformersTells) {
  const Result<Json> golden = parse_json_file(golden_folder("storyteller.json"));
  ASSERT_TRUE(golden.ok()) << golden.status().message();
  const auto engine = make_engine(small_config(std::string(LOCKSTEP_SOURCE_DIR) + "/models/storyteller"));
  ASSERT_NE(engine, nullptr);
  const Json cases = *golden->array("cases");
  std::vector<uint64_t> requests;
  for (const Json& one : cases) {
    const std::vector<int32_t> prompt = ids_of(*one.array("prompt_ids"));
    EXPECT_EQ(*engine->tokenizer()->encode(*one.string("prompt"), {}), prompt);
    const size_t tokens = one.array("output_ids")->size();
    requests.push_back(*engine->add(greedy(prompt, static_cast<int32_t>(tokens))));
  }

  Outcome run = run_to_end(*engine);

  ASSERT_GE(cases.size(), 5u);
  for (size_t i = 0; i < cases.size(); ++i) {
    EXPECT_EQ(run.tokens[requests[i]], ids_of(*cases[i].array("output_ids"))) << *cases[i].string("prompt");
  }
}

}  // namespace
}  // namespace lockstep::testing
