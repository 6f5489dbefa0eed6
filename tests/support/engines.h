// Engines for tests: small pools, given ids in, tokens and logits out.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace lockstep::testing {

inline EngineConfig small_config(const std::string& model, ComputeDType dtype = ComputeDType::kFloat32) {
  EngineConfig config;
  config.model.path = model;
  config.model.dtype = dtype;
  config.threads = 2;
  config.max_num_batched_tokens = 512;
  config.chunk_size = 512;
  config.max_num_seqs = 64;
  config.overlap = Overlap::kNever;  // logits are read after their step, before the next one
  config.page_size = model.ends_with("minicpm_sala") ? 64 : 16;  // there a page holds whole blocks of keys
  return config;
}

inline std::unique_ptr<Engine> make_engine(const EngineConfig& config) {
  Result<std::unique_ptr<Engine>> engine = Engine::create(config);
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  return engine.ok() ? std::move(engine).value() : nullptr;
}

// A request that draws `max_tokens` greedy tokens whatever they are.
inline Request greedy(std::vector<int32_t> prompt, int32_t max_tokens) {
  Request request;
  request.prompt_ids = std::move(prompt);
  request.max_tokens = max_tokens;
  request.temperature = 0;
  request.ignore_eos = true;
  return request;
}

// Logits by request, one row of V per drawn token.
using LogitsById = std::map<uint64_t, std::vector<std::vector<float>>>;
using TokensById = std::map<uint64_t, std::vector<int32_t>>;

struct Outcome {
  TokensById tokens;
  LogitsById logits;
};

// Runs everything that was added to its end, and proves that everything is free again.
inline Outcome run_to_end(Engine& engine) {
  Outcome run;
  const auto vocab = static_cast<size_t>(engine.model().spec.vocab);
  for (int64_t steps = 0; engine.has_work(); ++steps) {
    EXPECT_LT(steps, 1'000'000);
    const std::vector<RequestOutput> outputs = engine.step();
    std::vector<std::byte> copy;
    const TensorView there = engine.executor().logits(static_cast<int64_t>(outputs.size()));
    const TensorView logits = HostView(engine.executor().stream()).look(there, copy);
    for (size_t row = 0; row < outputs.size(); ++row) {
      EXPECT_EQ(outputs[row].error, "");
      if (outputs[row].tokens.empty()) continue;
      const float* values = logits.as<const float>() + row * vocab;
      run.tokens[outputs[row].id].push_back(outputs[row].tokens.front());
      run.logits[outputs[row].id].emplace_back(values, values + vocab);
    }
  }
  EXPECT_TRUE(engine.idle());
  return run;
}

}  // namespace lockstep::testing
