// Requests that come and go at random, for engines that must bring each of them the same.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "support/engines.h"
#include "support/model_folder.h"
#include "support/transcript.h"

namespace lockstep::testing {

// A request that comes before some step and, perhaps, goes before its end.
struct Visit {
  Request request;
  int64_t comes = 0;
  int64_t goes = -1;  // -1: never
};

inline std::vector<Visit> random_visits(uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto pick = [&random](int32_t least, int32_t most) {
    return std::uniform_int_distribution<int32_t>(least, most)(random);
  };
  std::vector<Visit> visits;
  int64_t now = 0;
  for (int32_t i = 0; i < 24; ++i) {
    Visit visit;
    Request& request = visit.request;
    const int32_t prompt = pick(1, 40);
    for (int32_t t = 0; t < prompt; ++t) request.prompt_ids.push_back(pick(1, 250));
    request.max_tokens = pick(1, 30);
    request.temperature = static_cast<float>(pick(0, 2)) * 0.6f;
    request.logprobs = pick(-1, 2);
    request.seed = static_cast<uint64_t>(pick(0, 1000));
    request.ignore_eos = pick(0, 3) == 0;
    if (pick(0, 3) == 0) request.repetition_penalty = 1.2f;
    if (pick(0, 7) == 0) request.forced = {5, 6, 7, 8};
    visit.comes = now;
    if (pick(0, 4) == 0) visit.goes = now + pick(1, 12);
    if (pick(0, 2) == 0) now += pick(1, 9);
    visits.push_back(visit);
  }
  return visits;
}

// What they bring, and what it took.
struct Brought {
  Transcripts transcripts;
  EngineStats stats;
};

// Runs them all to their ends; then all must be free.
inline Brought attend(const EngineConfig& config, const std::vector<Visit>& visits) {
  Brought brought;
  const auto engine = make_engine(config);
  if (engine == nullptr) return brought;
  size_t next = 0;
  for (int64_t now = 0; next < visits.size() || engine->has_work(); ++now) {
    if (now > 10'000) {
      ADD_FAILURE() << "requests do not end";
      break;
    }
    for (; next < visits.size() && visits[next].comes <= now; ++next) {
      const Result<uint64_t> id = engine->add(visits[next].request);
      EXPECT_EQ(id.status().message(), "");
      EXPECT_EQ(id.ok() ? *id : 0, next + 1);
    }
    for (size_t i = 0; i < next; ++i) {
      if (visits[i].goes == now) engine->cancel(i + 1);
    }
    step(*engine, brought.transcripts);
  }
  EXPECT_TRUE(engine->idle());
  brought.stats = engine->stats();
  return brought;
}

// Few pages, so that sequences lose theirs.
inline EngineConfig crowded(const std::string& folder) {
  EngineConfig config = small_config(folder);
  config.threads = 1;
  config.max_num_seqs = 6;
  config.max_num_batched_tokens = 40;
  config.chunk_size = 16;
  config.max_model_len = 96;
  config.num_pages = 13;
  config.graph_sizes = {2, 4, 6};
  return config;
}

// The same tokens, log probabilities no further apart than `near`; of those who went before their end, as far
// as both came.
inline void expect_same(const Brought& alone, const Brought& overlapped, const std::vector<Visit>& visits,
                        float near) {
  for (size_t i = 0; i < visits.size(); ++i) {
    SCOPED_TRACE(concat("request ", i + 1));
    const auto of = [i](const Brought& run) {
      const auto found = run.transcripts.find(i + 1);
      return found == run.transcripts.end() ? Transcript{} : found->second;
    };
    const Transcript one = of(alone), other = of(overlapped);
    EXPECT_EQ(one.error, "");
    EXPECT_EQ(other.error, "");
    size_t tokens = one.tokens.size();
    if (visits[i].goes >= 0) {  // it had as many steps, but perhaps others
      tokens = std::min(tokens, other.tokens.size());
    } else {
      EXPECT_EQ(one.finish, other.finish);
      EXPECT_EQ(one.tokens.size(), other.tokens.size());
    }
    if (other.tokens.size() < tokens) continue;
    for (size_t t = 0; t < tokens; ++t) EXPECT_EQ(one.tokens[t], other.tokens[t]) << "token " << t;
    for (size_t t = 0; t < std::min(one.logprobs.size(), other.logprobs.size()); ++t) {
      const TokenLogprobs &a = one.logprobs[t], &b = other.logprobs[t];
      EXPECT_NEAR(a.logprob, b.logprob, near) << "token " << t;
      ASSERT_EQ(a.top.size(), b.top.size()) << "token " << t;
      for (size_t k = 0; k < a.top.size(); ++k) EXPECT_NEAR(a.top[k].second, b.top[k].second, near);
    }
  }
}

// The model of a folder with every sixth id as an end of text.
inline void end_often(const ModelFolder& folder) {
  std::string stops = "0";
  for (int32_t id = 6; id < 250; id += 6) stops += concat(", ", id);
  folder.write("generation_config.json", concat(R"({"eos_token_id": [)", stops, "]}"));
}

}  // namespace lockstep::testing
