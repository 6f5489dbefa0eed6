// Logits after every prefix of a prompt, all prefixes in one batch.
#pragma once

#include "engines.h"
#include "golden_file.h"

namespace lockstep::testing {

// [ids.size()] rows of V logits; row i is what the model says after i + 1 tokens.
inline std::vector<std::vector<float>> logits_of_prefixes(const std::string& model, ComputeDType dtype,
                                                          const std::vector<int32_t>& ids) {
  EngineConfig config = small_config(model, dtype);
  config.max_num_seqs = static_cast<int32_t>(ids.size());
  config.max_num_batched_tokens = config.max_num_seqs * (config.max_num_seqs + 1) / 2;
  const auto engine = make_engine(config);
  if (engine == nullptr) return {};
  std::vector<uint64_t> requests;
  for (size_t length = 1; length <= ids.size(); ++length) {
    requests.push_back(
        *engine->add(greedy({ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(length)}, 1)));
  }
  Outcome run = run_to_end(*engine);
  std::vector<std::vector<float>> logits;
  for (const uint64_t request : requests) logits.push_back(run.logits[request].front());
  return logits;
}

}  // namespace lockstep::testing
