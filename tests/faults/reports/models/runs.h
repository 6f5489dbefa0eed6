// Whole engines on the models' own shapes, cut to a few layers, with made-up weights: what they draw, and
// what logits they draw it from.
#pragma once

#include <string_view>
#include <vector>

#include "base/digest.h"
#include "engine/engine.h"

namespace lockstep::faults {

struct ModelOutcome {
  std::vector<std::vector<int32_t>> tokens;  // of each request
  std::vector<std::vector<Digest>> logits;   // of each request, by token: of the bits of a row of V
  int64_t steps = 0;
  int64_t replays = 0;    // of rank 0
  int64_t cut_steps = 0;  // whose rows context-parallel ranks shared
};

// A config for made-up weights of a built-in model, in f32, with pools for a few sequences of `max_len`
// tokens.
EngineConfig model_config(std::string_view model, int32_t max_len);
// `length` ids that follow from `key`, and `draw` greedy ones after them.
Request model_request(uint64_t key, int32_t length, int32_t draw, int32_t vocab);

// Runs the requests to their ends on the ranks of a mesh, each a thread; request i comes when i others have
// drawn a token, so that prompts meet sequences that decode. Errors: the first of any rank or request.
Result<ModelOutcome> run_model(const EngineConfig& config, const MeshShape& shape,
                               std::span<const Request> requests);

// Errors: kInternal, naming the first request and token at which `b` is not `a`: tokens, and logits too where
// `bits`.
Status expect_same(const ModelOutcome& a, const ModelOutcome& b, bool bits);

}  // namespace lockstep::faults
