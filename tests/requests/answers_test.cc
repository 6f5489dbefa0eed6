// What requests may ask for and what they get: refusals, logprobs, seeds, penalties, and numbers gone wrong.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "support/engines.h"
#include "support/golden_file.h"
#include "support/model_folder.h"
#include "support/transcript.h"

namespace lockstep::testing {
namespace {

std::vector<int32_t> some_ids(int32_t count, int32_t first) {
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < count; ++i) ids.push_back((first + 7 * i) % 256);
  return ids;
}

// One thread, but where several are the point: steps are short.
EngineConfig config_of(const std::string& folder) {
  EngineConfig config = small_config(folder);
  config.threads = 1;
  return config;
}

std::string refusal(Engine& engine, const Request& request) {
  const Result<uint64_t> id = engine.add(request);
  EXPECT_FALSE(id.ok());
  EXPECT_EQ(id.status().code(), Code::kInvalidArgument);
  return id.status().message();
}

TEST(Requests, ThatCannotRunAreRefusedAtOnce) {
  EngineConfig config = config_of(golden_folder("qwen3"));
  config.max_model_len = 100;
  config.num_pages = 3;
  const auto engine = make_engine(config);
  Request text = greedy({}, 5);
  text.prompt = "Once";
  Request number = greedy({1}, 5);
  number.top_p = 0;

  EXPECT_EQ(refusal(*engine, greedy({1, 259}, 5)), "request: token id 259; expected 0..258");
  EXPECT_EQ(refusal(*engine, greedy({-1}, 5)), "request: token id -1; expected 0..258");
  EXPECT_EQ(refusal(*engine, text),
            "request: a text prompt for qwen3, which has no tokenizer.json; give token ids");
  EXPECT_EQ(refusal(*engine, number), "request: top_p is 0; expected a number above 0, at most 1");
  EXPECT_EQ(refusal(*engine, greedy(some_ids(100, 0), 5)),
            "request: the prompt has 100 tokens; expected at most 99, which leaves room for one more in a "
            "context of "
            "100; shorten it or raise --max-model-len");
  EXPECT_EQ(
      refusal(*engine, greedy(some_ids(40, 0), 10)),
      "request: 49 tokens need 4 pages of 16 tokens; expected at most the 3 of the pool; shorten it or raise "
      "--num-pages");
  EXPECT_FALSE(engine->has_work());
  EXPECT_TRUE(engine->idle());
  EXPECT_EQ(run_alone(*engine, greedy(some_ids(40, 0), 9)).tokens.size(), 9u);
}

TEST(Requests, OfNoTextAreRefused) {
  const auto engine = make_engine(config_of(storyteller_folder()));
  EXPECT_EQ(refusal(*engine, Request{}), "request: the prompt is empty; expected at least one token");
}

// --- logprobs ----------------------------------------------------------------------------------------------

TEST(Logprobs, AreThoseOfTheRawLogitsInFallingOrder) {
  const auto engine = make_engine(config_of(golden_folder("qwen3_next")));
  Request none = greedy(some_ids(9, 1), 1), own = none, best = none;
  own.logprobs = 0;
  best.logprobs = 5;
  best.temperature = 0.7f;  // logprobs are of the model, not of the draw
  best.top_k = 3;
  best.seed = 4;
  for (const Request& request : {none, own, best}) ASSERT_TRUE(engine->add(request).ok());

  const std::vector<RequestOutput> outputs = engine->step();

  ASSERT_EQ(outputs.size(), 3u);
  EXPECT_TRUE(outputs[0].logprobs.empty());
  ASSERT_EQ(outputs[1].logprobs.size(), 1u);
  EXPECT_TRUE(outputs[1].logprobs[0].top.empty());
  ASSERT_EQ(outputs[2].logprobs.size(), 1u);
  ASSERT_EQ(outputs[2].logprobs[0].top.size(), 5u);
  const int64_t vocab = engine->model().spec.vocab;
  const auto* logits = engine->executor().logits(3).as<const float>();
  for (const size_t row : {1u, 2u}) {
    const float* own_row = logits + static_cast<int64_t>(row) * vocab;
    const double most = *std::max_element(own_row, own_row + vocab);
    double sum = 0;
    for (int64_t v = 0; v < vocab; ++v) sum += std::exp(own_row[v] - most);
    const auto expected = [&](int32_t token) { return own_row[token] - most - std::log(sum); };
    // A sum of 259 exponentials in f32, each off by a few units in the last place: 259 * 4 * 2^-24 < 1e-4.
    const TokenLogprobs& given = outputs[row].logprobs[0];
    EXPECT_EQ(given.token, outputs[row].tokens[0]);
    EXPECT_NEAR(given.logprob, expected(given.token), 1e-4);
    double before = 0;
    for (const auto& [token, logprob] : given.top) {
      EXPECT_NEAR(logprob, expected(token), 1e-4);
      EXPECT_LE(logprob, before);
      before = logprob;
    }
    if (!given.top.empty()) {
      EXPECT_NEAR(given.top[0].second, -std::log(sum), 1e-4) << "the best of all";
    }
  }
}

// --- seeds -------------------------------------------------------------------------------------------------

Request drawn(uint64_t seed, int32_t prompt, int32_t tokens) {
  Request request = greedy(some_ids(prompt, static_cast<int32_t>(seed)), tokens);
  request.temperature = 1.0f;
  request.top_p = 0.95f;
  request.seed = seed;
  return request;
}

TEST(Seeds, GiveTheSameTokensWhateverSharesTheBatch) {
  for (const char* family : {"qwen3", "qwen3_moe", "qwen3_next"}) {
    EngineConfig config = config_of(golden_folder(family));
    config.chunk_size = 16;
    config.graph_sizes = {4, 8};
    config.threads = 2;
    const auto engine = make_engine(config);
    std::vector<Request> requests;
    for (uint64_t i = 0; i < 7; ++i) requests.push_back(drawn(i, 3 + 9 * static_cast<int32_t>(i % 4), 12));
    std::vector<std::vector<int32_t>> alone;
    for (const Request& request : requests) alone.push_back(run_alone(*engine, request).tokens);
    EXPECT_NE(alone[0], alone[4]) << "other seeds draw other tokens";

    Transcripts together;
    std::vector<uint64_t> ids;
    for (const Request& request : requests) {
      ids.push_back(*engine->add(request));
      step(*engine, together);
    }
    together = finish(*engine, std::move(together));

    for (size_t i = 0; i < requests.size(); ++i)
      EXPECT_EQ(together[ids[i]].tokens, alone[i]) << family << " " << i;
  }
}

TEST(Seeds, MakeADifference) {
  const auto engine = make_engine(config_of(golden_folder("qwen3")));
  Request request = drawn(1, 5, 20);
  const std::vector<int32_t> first = run_alone(*engine, request).tokens;
  request.seed = 2;

  EXPECT_NE(run_alone(*engine, request).tokens, first);
  request.seed = 1;
  EXPECT_EQ(run_alone(*engine, request).tokens, first);
}

// --- preemption --------------------------------------------------------------------------------------------

TEST(Preemption, ChangesNoTokenOfAnyRequestPenaltiesIncluded) {
  for (const char* family : {"qwen3", "qwen3_next"}) {
    EngineConfig config = config_of(golden_folder(family));
    config.chunk_size = 8;
    const auto roomy = make_engine(config);
    config.num_pages = 9;  // a single request may need 5
    config.max_model_len = 80;
    const auto tight = make_engine(config);
    std::vector<uint64_t> in_roomy, in_tight;
    for (uint64_t i = 0; i < 5; ++i) {
      Request request = drawn(i, 10 + static_cast<int32_t>(i), 60);
      if (i % 2 == 0) {
        request.repetition_penalty = 1.3f;
        request.frequency_penalty = 0.5f;
        request.presence_penalty = 0.25f;
      }
      in_roomy.push_back(*roomy->add(request));
      in_tight.push_back(*tight->add(request));
    }

    Transcripts expected = finish(*roomy), found = finish(*tight);

    EXPECT_EQ(roomy->stats().preemptions, 0);
    EXPECT_GT(tight->stats().preemptions, 2) << family;
    for (size_t i = 0; i < in_roomy.size(); ++i)
      EXPECT_EQ(found[in_tight[i]].tokens, expected[in_roomy[i]].tokens) << family << ", request " << i;
  }
}

TEST(Penalties, CountWhatWasDrawn) {
  const auto engine = make_engine(config_of(golden_folder("qwen3")));
  Request request = greedy(some_ids(4, 2), 40);
  request.frequency_penalty = 100;  // far above any logit: no token is drawn twice

  std::vector<int32_t> tokens = run_alone(*engine, request).tokens;

  std::sort(tokens.begin(), tokens.end());
  EXPECT_EQ(std::adjacent_find(tokens.begin(), tokens.end()), tokens.end());
}

// --- numbers gone wrong ------------------------------------------------------------------------------------

// A NaN in the embedding of one token: whoever uses that token ends with an error, nobody else notices, and
// the pages and states that hold its NaNs serve the next ones as if they were new.
TEST(NonFinite, EndsItsRequestAloneAndLeavesNothingBehindAtEveryLevel) {
  const std::vector<std::pair<const char*, GuardLevel>> cases{{"qwen3_moe", GuardLevel::kPlan},
                                                              {"qwen3_next", GuardLevel::kReplay},
                                                              {"qwen3_next", GuardLevel::kFull}};
  for (const auto& [family, level] : cases) {
    const ModelFolder folder(golden_folder(family));
    constexpr int32_t kBad = 11;
    folder.poison("model.embed_tokens.weight", kBad * 48);
    EngineConfig config = config_of(folder.path());
    config.guard = level;
    config.num_pages = 12;
    config.num_state_slots = 3;
    config.max_model_len = 100;
    const auto engine = make_engine(config);
    const Request clean = drawn(3, 20, 30);
    ASSERT_EQ(std::count(clean.prompt_ids.begin(), clean.prompt_ids.end(), kBad), 0);
    const std::vector<int32_t> alone = run_alone(*engine, clean).tokens;
    ASSERT_EQ(std::count(alone.begin(), alone.end(), kBad), 0) << "choose another seed";
    const uint64_t last = engine->last_plan().scalar(field::epoch).get();

    const uint64_t good = *engine->add(clean);
    const uint64_t bad = *engine->add(greedy({1, 2, kBad, 4}, 10));
    Transcripts transcripts = finish(*engine);

    EXPECT_EQ(transcripts[bad].finish, FinishReason::kError);
    EXPECT_EQ(transcripts[bad].error,
              concat("request ", bad, ": 259 logits are NaN or infinite at position 4 in step ", last + 1,
                     "; expected finite numbers"));
    EXPECT_TRUE(transcripts[bad].tokens.empty());
    EXPECT_EQ(transcripts[good].tokens, alone) << family;
    EXPECT_EQ(engine->stats().non_finite_rows, 1);
    // Fill every page and state with NaNs, then use them all again.
    for (int i = 0; i < 3; ++i) {
      std::vector<int32_t> ids(60, kBad);
      EXPECT_EQ(run_alone(*engine, greedy(ids, 10)).finish, FinishReason::kError);
    }
    for (int i = 0; i < 3; ++i) EXPECT_EQ(run_alone(*engine, clean).tokens, alone) << family << ", run " << i;
  }
}

}  // namespace
}  // namespace lockstep::testing
