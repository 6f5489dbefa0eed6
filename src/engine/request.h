// What goes into the engine and what comes out of it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/units.h"
#include "plan/plan_builder.h"

namespace lockstep {

// Either text or token ids. Defaults draw from the model's own distribution.
struct Request {
  std::string prompt;
  std::vector<int32_t> prompt_ids;  // when not empty: taken instead of `prompt`
  bool add_special_tokens = true;   // run the tokenizer's template on `prompt`
  int32_t max_tokens = 128;
  float temperature = 1.0f;  // 0: greedy
  int32_t top_k = 0;         // 0: off
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  uint64_t seed = 0;
  int32_t logprobs = -1;          // -1: none; 0: of each token; n: of the n best too, at most 20
  std::vector<std::string> stop;  // generation ends before the first of these
  bool ignore_eos = false;
  // What follows, whatever the model would draw: its tokens are taken instead of drawn ones, and their log
  // probabilities are the answer, over the whole vocabulary and without text. max_tokens, stop and ignore_eos
  // say nothing then.
  std::vector<int32_t> forced;
};

enum class FinishReason : uint8_t { kNone, kStop, kLength, kCancelled, kError };
std::string_view name_of(FinishReason reason);

struct TokenLogprobs {
  int32_t token = -1;
  float logprob = 0.0f;
  std::vector<std::pair<int32_t, float>> top;  // the best, descending
};

// What one step brought for one request.
struct RequestOutput {
  uint64_t id = 0;
  std::string text;             // complete characters only
  std::vector<int32_t> tokens;  // drawn in this step: one, or none
  std::vector<TokenLogprobs> logprobs;
  FinishReason finish = FinishReason::kNone;
  std::string error;  // with kError: what happened, in a sentence
  Status failure;     // of the step, where that is what ended the request: its fault says which rule broke
};

// Holds a request's sampling numbers to their ranges.
// Errors: kInvalidArgument naming the number, what was given and what is expected.
Status check_request(const Request& request);

}  // namespace lockstep
