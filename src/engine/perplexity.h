// Perplexity: how well a model foretells a text, in windows that overlap. Every token but the first is
// foretold once, in the first window that has it, from all tokens that stand before it there. Source:
// "Perplexity of fixed-length models" in the documentation of transformers.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "diag/progress.h"
#include "engine/engine.h"

namespace lockstep {

// The natural logarithm of the probability that a row of logits gives to a token; summed in f64.
float logprob_of(std::span<const float> logits, int32_t token);

// Tokens [begin, scored_from) of a text are context, [scored_from, end) are foretold.
struct TextWindow {
  int64_t begin = 0;
  int64_t scored_from = 0;
  int64_t end = 0;
  bool operator==(const TextWindow&) const = default;
};

// The windows of a text of `tokens` tokens: of `window` tokens each, the next one `stride` tokens further on.
// Precondition: tokens >= 2, 1 <= stride < window.
std::vector<TextWindow> text_windows(int64_t tokens, int64_t window, int64_t stride);

struct PerplexityOptions {
  int32_t window = 1024;  // tokens of a window, at most the engine's max_model_len
  int32_t stride = 512;   // tokens from one to the next
  ProgressOptions progress{};
};

struct Perplexity {
  int64_t tokens = 0;  // of the text
  int64_t scored = 0;  // that were foretold
  int64_t windows = 0;
  double nats = 0;  // -sum of log probabilities
  double nats_per_token() const { return nats / static_cast<double>(scored); }
};

// Runs the windows through the engine, several at a time: the context as a prompt, the rest one token per
// step, as in generation, each given as the text has it. What is found does not depend on what else runs in a
// step. Where `replicas` has several ranks, their leaders call it together and each runs its share.
// Errors: kInvalidArgument for fewer than two tokens, or a window or stride that does not fit; of the first
//         window that failed.
// Cost:   about the tokens of the text as decode steps of several rows, and at a stride of half a window as
//         many rows of prefill.
Result<Perplexity> perplexity(Engine& engine, Communicator& replicas, std::span<const int32_t> text,
                              const PerplexityOptions& options);

}  // namespace lockstep
