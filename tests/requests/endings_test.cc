// How requests end: stop ids, stop strings, lengths, cancels; and that their text is what their tokens say.
#include <gtest/gtest.h>

#include <algorithm>

#include "support/engines.h"
#include "support/golden_file.h"
#include "support/model_folder.h"
#include "support/transcript.h"

namespace lockstep::testing {
namespace {

Request story(std::string prompt, int32_t max_tokens) {
  Request request;
  request.prompt = std::move(prompt);
  request.max_tokens = max_tokens;
  request.temperature = 0;
  request.ignore_eos = true;
  return request;
}

std::string decode(const Engine& engine, const std::vector<int32_t>& tokens, size_t count) {
  return engine.tokenizer()->decode(std::span(tokens).first(count), true).value();
}

// One thread: nothing here depends on how many there are, and steps are short.
EngineConfig config_of(const std::string& folder) {
  EngineConfig config = small_config(folder);
  config.threads = 1;
  return config;
}

class Endings : public ::testing::Test {
 protected:
  std::unique_ptr<Engine> engine_ = make_engine(config_of(storyteller_folder()));
};

TEST_F(Endings, StreamedTextIsTheTextOfTheTokens) {
  for (const uint64_t seed : {1, 2, 3}) {
    Request request = story("The princess", 60);
    request.temperature = 1.0f;
    request.seed = seed;

    const Transcript transcript = run_alone(*engine_, request);

    EXPECT_EQ(transcript.finish, FinishReason::kLength);
    EXPECT_EQ(transcript.tokens.size(), 60u);
    EXPECT_EQ(transcript.text(), decode(*engine_, transcript.tokens, 60)) << "seed " << seed;
  }
}

TEST_F(Endings, AfterMaxTokensOrAtTheEndOfTheContext) {
  EXPECT_EQ(run_alone(*engine_, story("Once", 1)).tokens.size(), 1u);
  EXPECT_EQ(run_alone(*engine_, story("Once", 7)).tokens.size(), 7u);

  EngineConfig config = config_of(storyteller_folder());
  config.max_model_len = 24;
  const auto narrow = make_engine(config);
  Request request = story("", 100);
  request.prompt_ids.assign(20, 100);
  const Transcript transcript = run_alone(*narrow, request);

  EXPECT_EQ(transcript.tokens.size(), 4u);
  EXPECT_EQ(transcript.finish, FinishReason::kLength);
}

// Every stop string that the text contains, wherever its tokens begin and end.
TEST_F(Endings, BeforeAStopStringWhereverTheTokensCutIt) {
  const Transcript whole = run_alone(*engine_, story("Once upon a time", 24));
  const std::string text = whole.text();
  ASSERT_GT(text.size(), 40u);
  for (size_t begin = 0; begin + 9 < text.size(); begin += 11) {
    for (const size_t length : {1u, 3u, 9u}) {
      Request request = story("Once upon a time", 24);
      request.stop = {text.substr(begin, length)};
      const size_t first = text.find(request.stop[0]);
      size_t needed = 1;
      while (decode(*engine_, whole.tokens, needed).find(request.stop[0]) == std::string::npos) ++needed;

      const Transcript cut = run_alone(*engine_, request);

      EXPECT_EQ(cut.text(), text.substr(0, first)) << request.stop[0];
      EXPECT_EQ(cut.finish, FinishReason::kStop) << request.stop[0];
      EXPECT_EQ(cut.tokens.size(), needed) << request.stop[0];
    }
  }
}

TEST_F(Endings, TextThatWasHeldBackForAStopStringComesOutAtTheEnd) {
  const Transcript whole = run_alone(*engine_, story("Once upon a time", 12));
  const std::string text = whole.text();
  Request request = story("Once upon a time", 12);
  request.stop = {text.substr(text.size() - 10) + "!?"};

  const Transcript held = run_alone(*engine_, request);

  EXPECT_EQ(held.text(), text);
  EXPECT_EQ(held.finish, FinishReason::kLength);
  EXPECT_GT(held.pieces.back().size(), whole.pieces.back().size());
}

TEST_F(Endings, AtAStopIdWhoseTextIsNotShown) {
  const Transcript whole = run_alone(*engine_, story("Once upon a time", 16));
  const int32_t stop = whole.tokens[9];
  const auto at =
      static_cast<size_t>(std::find(whole.tokens.begin(), whole.tokens.end(), stop) - whole.tokens.begin());
  const ModelFolder folder(storyteller_folder());
  folder.write("generation_config.json", concat(R"({"eos_token_id": [4095, )", stop, "]}"));
  const auto engine = make_engine(config_of(folder.path()));
  Request request = story("Once upon a time", 16);

  const Transcript ignoring = run_alone(*engine, request);
  request.ignore_eos = false;
  const Transcript stopped = run_alone(*engine, request);

  EXPECT_EQ(ignoring.tokens, whole.tokens);
  EXPECT_EQ(stopped.finish, FinishReason::kStop);
  EXPECT_EQ(stopped.tokens.size(), at + 1);
  EXPECT_EQ(stopped.tokens.back(), stop);
  EXPECT_EQ(stopped.text(), decode(*engine, whole.tokens, at));
}

// --- cancelled ---------------------------------------------------------------------------------------------

std::vector<int32_t> some_ids(int32_t count, int32_t first) {
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < count; ++i) ids.push_back((first + 7 * i) % 256);
  return ids;
}

// A long prompt in chunks of 8, then decoding: cancelled after any number of steps it leaves nothing behind
// and the others nothing else.
TEST(Cancel, InAnyPhaseFreesEverythingAndDisturbsNobody) {
  for (const char* family : {"qwen3", "qwen3_next"}) {
    EngineConfig config = config_of(golden_folder(family));
    config.chunk_size = 8;
    const auto engine = make_engine(config);
    const Request kept = greedy(some_ids(13, 3), 12);
    Request cancelled = greedy(some_ids(30, 5), 50);
    cancelled.repetition_penalty = 1.2f;
    const std::vector<int32_t> expected = run_alone(*engine, kept).tokens;
    for (int steps = 0; steps <= 8; ++steps) {
      const uint64_t victim = *engine->add(cancelled);
      const uint64_t other = *engine->add(kept);
      Transcripts transcripts;
      for (int i = 0; i < steps; ++i) step(*engine, transcripts);

      engine->cancel(victim);

      transcripts = finish(*engine, std::move(transcripts));
      EXPECT_EQ(transcripts[other].tokens, expected) << family << " after " << steps << " steps";
      EXPECT_EQ(transcripts[victim].finish, FinishReason::kNone);
      engine->cancel(victim);  // again: nothing happens
    }
  }
}

TEST(Cancel, WhileWaitingForRoomAndAfterTheEndIsHarmless) {
  EngineConfig config = config_of(golden_folder("qwen3"));
  config.max_num_seqs = 1;
  const auto engine = make_engine(config);
  const uint64_t running = *engine->add(greedy(some_ids(5, 1), 3));
  const uint64_t waiting = *engine->add(greedy(some_ids(5, 2), 3));
  Transcripts transcripts;
  step(*engine, transcripts);

  engine->cancel(waiting);
  transcripts = finish(*engine, std::move(transcripts));
  engine->cancel(running);
  engine->cancel(12345);

  EXPECT_EQ(transcripts.size(), 1u);
  EXPECT_EQ(transcripts[running].tokens.size(), 3u);
  EXPECT_TRUE(engine->idle());
  EXPECT_TRUE(engine->step().empty());
}

}  // namespace
}  // namespace lockstep::testing
