// How well a model foretells a text: windows, forced tokens, and numbers that do not depend on the way.
#include "engine/perplexity.h"

#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

#include "support/engines.h"
#include "support/golden_file.h"
#include "support/model_folder.h"

namespace lockstep::testing {
namespace {

std::vector<int32_t> some_text(int32_t count, int32_t vocab) {
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>(i * 31 + i * i % 17) % vocab);
  return ids;
}

// Few graphs have to be proven then.
EngineConfig few_at_once(const std::string& model) {
  EngineConfig config = small_config(model);
  config.max_num_seqs = 8;
  config.graph_sizes = {1, 4, 8};
  return config;
}

TEST(TextWindows, ForetellEveryTokenOnceBehindAsMuchAsAWindowHolds) {
  EXPECT_EQ(text_windows(10, 4, 2), (std::vector<TextWindow>{{0, 1, 4}, {2, 4, 6}, {4, 6, 8}, {6, 8, 10}}));
  EXPECT_EQ(text_windows(11, 4, 2).back(), (TextWindow{8, 10, 11}));
  EXPECT_EQ(text_windows(4, 4, 3), (std::vector<TextWindow>{{0, 1, 4}}));
  EXPECT_EQ(text_windows(2, 4, 1), (std::vector<TextWindow>{{0, 1, 2}}));
  for (int64_t tokens = 2; tokens < 60; ++tokens) {
    for (int64_t stride = 1; stride < 9; ++stride) {
      int64_t scored = 1;
      for (const TextWindow& w : text_windows(tokens, 9, stride)) {
        ASSERT_EQ(w.scored_from, scored);
        ASSERT_LT(w.scored_from, w.end);
        ASSERT_LE(w.end, w.begin + 9);
        ASSERT_TRUE(w.begin == 0 || w.scored_from - w.begin >= 9 - stride);
        scored = w.end;
      }
      ASSERT_EQ(scored, tokens);
    }
  }
}

TEST(Logprob, IsTheLogarithmOfASoftmax) {
  const std::vector<float> even(8, 3.0f), far = {1000.0f, 0.0f, -1000.0f};

  EXPECT_FLOAT_EQ(logprob_of(even, 5), -std::log(8.0f));
  EXPECT_EQ(logprob_of(far, 0), 0.0f);
  EXPECT_EQ(logprob_of(far, 2), -2000.0f);
  EXPECT_FLOAT_EQ(logprob_of(std::vector<float>{0.0f, std::log(3.0f)}, 0), -std::log(4.0f));
}

// The answers of a request that forces text[7..], and whether a step of it was a graph's.
std::vector<TokenLogprobs> force(Engine& engine, const std::vector<int32_t>& text, bool& replayed) {
  Request request;
  request.prompt_ids = {text.begin(), text.begin() + 7};
  request.forced = {text.begin() + 7, text.end()};
  EXPECT_TRUE(engine.add(request).ok());
  std::vector<TokenLogprobs> answers;
  while (engine.has_work()) {
    for (const RequestOutput& output : engine.step()) {
      answers.insert(answers.end(), output.logprobs.begin(), output.logprobs.end());
      EXPECT_EQ(output.text, "");
      EXPECT_EQ(output.finish,
                answers.size() == request.forced.size() ? FinishReason::kLength : FinishReason::kNone);
    }
    replayed = replayed || engine.runner().replays(engine.last_plan());
  }
  EXPECT_TRUE(engine.idle());
  return answers;
}

// Forced tokens go through decode steps and graphs; their log probabilities are those of the logits that a
// prefill of everything before them gives: bit for bit where layers attend, and where layers have states,
// which a prefill works out in chunks, as near as f32 is.
TEST(ForcedTokens, HaveTheProbabilitiesOfAPrefillOfAllBeforeThem) {
  for (const auto& [folder, vocab, near] :
       {std::tuple(golden_folder("qwen3"), 259, 0.0f), {storyteller_folder(), 4000, 1e-3f}}) {
    const auto engine = make_engine(few_at_once(folder));
    const std::vector<int32_t> text = some_text(20, vocab);
    bool replayed = false;

    const std::vector<TokenLogprobs> answers = force(*engine, text, replayed);

    EXPECT_TRUE(replayed) << "no forced token came to a graph";
    ASSERT_EQ(answers.size(), 13u);
    for (size_t i = 0; i < answers.size(); ++i) {
      const auto id = engine->add(greedy({text.begin(), text.begin() + 7 + static_cast<int64_t>(i)}, 1));
      ASSERT_TRUE(id.ok());
      const std::vector<float> logits = run_to_end(*engine).logits.at(*id).at(0);
      EXPECT_EQ(answers[i].token, text[7 + i]);
      EXPECT_NEAR(answers[i].logprob, logprob_of(logits, text[7 + i]), near) << folder << " token " << i;
    }
  }
}

double nats(const EngineConfig& config, const std::vector<int32_t>& text, const PerplexityOptions& options) {
  const auto engine = make_engine(config);
  const auto mesh = std::make_unique<Mesh>();
  const auto found = perplexity(*engine, mesh->dp(), text, options);
  EXPECT_TRUE(found.ok()) << found.status().message();
  EXPECT_TRUE(engine->idle());
  EXPECT_EQ(found->scored, static_cast<int64_t>(text.size()) - 1);
  EXPECT_EQ(found->tokens, static_cast<int64_t>(text.size()));
  return found->nats;
}

TEST(Perplexity, DoesNotDependOnBatchGraphsPagesOrThreads) {
  const std::vector<int32_t> text = some_text(150, 259);
  const PerplexityOptions options{.window = 40, .stride = 16};
  for (const std::string model : {"qwen3_next", "qwen3"}) {
    EngineConfig many = few_at_once(golden_folder(model));
    many.chunk_size = 13;
    EngineConfig one = many;
    one.max_num_seqs = 1;
    one.page_size = 5;
    one.threads = 1;
    one.enforce_eager = true;
    const double expected = nats(many, text, options);
    EXPECT_GT(expected, 0.0);
    EXPECT_EQ(nats(one, text, options), expected) << model;
    if (model == "qwen3_next") continue;  // the chunks of a prefill are those of its states
    EngineConfig few = many;              // pages for two windows: others wait, and some begin again
    few.num_pages = 7;
    few.chunk_size = 512;
    EXPECT_EQ(nats(few, text, options), expected);
  }
}

// One window as long as the text is the plain sum over the text.
TEST(Perplexity, OfOneWindowIsTheSumOverTheText) {
  const std::vector<int32_t> text = some_text(12, 259);
  const EngineConfig config = few_at_once(golden_folder("qwen3"));
  const auto engine = make_engine(config);
  double expected = 0;
  for (size_t i = 1; i < text.size(); ++i) {
    const auto id = engine->add(greedy({text.begin(), text.begin() + static_cast<int64_t>(i)}, 1));
    expected -= static_cast<double>(logprob_of(run_to_end(*engine).logits.at(*id).at(0), text[i]));
  }

  EXPECT_EQ(nats(config, text, {.window = 12, .stride = 11}), expected);
  EXPECT_EQ(nats(config, text, {.window = 64, .stride = 1}), expected);
}

TEST(Perplexity, RefusesWhatDoesNotFit) {
  EngineConfig config = few_at_once(golden_folder("qwen3"));
  config.max_model_len = 50;
  const auto engine = make_engine(config);
  const auto mesh = std::make_unique<Mesh>();
  const auto refusal = [&](const std::vector<int32_t>& text, const PerplexityOptions& options) {
    return perplexity(*engine, mesh->dp(), text, options).status().message();
  };
  const std::vector<int32_t> text = some_text(60, 259);
  Request request;
  request.prompt_ids = some_text(20, 259);
  request.forced = some_text(31, 259);

  EXPECT_EQ(refusal({1}, {}),
            "perplexity: the text has 1 tokens; expected at least 2, one of which foretells the other");
  EXPECT_EQ(refusal(text, {.window = 51}),
            "perplexity: --window is 51; expected 2..50, the tokens of a sequence (--max-model-len)");
  EXPECT_EQ(refusal(text, {.window = 50, .stride = 50}),
            "perplexity: --stride is 50; expected 1..49, less than --window = 50");
  EXPECT_EQ(refusal({1, 2, 259}, {.window = 8, .stride = 4}), "request: token id 259; expected 0..258");
  EXPECT_EQ(
      engine->add(request).status().message(),
      "request: 31 tokens are to follow a prompt of 20; expected at most 30 in a context of 50; shorten "
      "them or raise --max-model-len");
  EXPECT_FALSE(engine->has_work());
}

}  // namespace
}  // namespace lockstep::testing
