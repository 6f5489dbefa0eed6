// What requests bring, from the first step to the last, as one would write it down.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace lockstep::testing {

struct Transcript {
  std::vector<std::string> pieces;  // text, one per step that brought something
  std::vector<int32_t> tokens;
  std::vector<TokenLogprobs> logprobs;
  FinishReason finish = FinishReason::kNone;
  std::string error;

  std::string text() const {
    std::string all;
    for (const std::string& piece : pieces) all += piece;
    return all;
  }
  void take(const RequestOutput& output) {
    EXPECT_EQ(finish, FinishReason::kNone) << "request " << output.id << " goes on after its end";
    pieces.push_back(output.text);
    tokens.insert(tokens.end(), output.tokens.begin(), output.tokens.end());
    logprobs.insert(logprobs.end(), output.logprobs.begin(), output.logprobs.end());
    finish = output.finish;
    error = output.error;
  }
};

using Transcripts = std::map<uint64_t, Transcript>;

// Takes one step into the transcripts.
inline void step(Engine& engine, Transcripts& transcripts) {
  for (const RequestOutput& output : engine.step()) transcripts[output.id].take(output);
}

// Runs everything that was added to its end; then all must be free.
inline Transcripts finish(Engine& engine, Transcripts transcripts = {}) {
  for (int64_t steps = 0; engine.has_work(); ++steps) {
    EXPECT_LT(steps, 100'000);
    if (steps >= 100'000) break;
    step(engine, transcripts);
  }
  EXPECT_TRUE(engine.idle());
  return transcripts;
}

// The transcript of one request that has the engine to itself.
inline Transcript run_alone(Engine& engine, const Request& request) {
  const Result<uint64_t> id = engine.add(request);
  EXPECT_TRUE(id.ok()) << id.status().message();
  return id.ok() ? finish(engine)[*id] : Transcript{};
}

}  // namespace lockstep::testing
