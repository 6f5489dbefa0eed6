// Bench: how fast an engine reads prompts (ppN) and draws tokens (tgN), beside what the machine could do.
// Cases are those of llama-bench: random tokens, everything through the real engine, greedy draws, the first
// repetition warms up.
#pragma once

#include <string>
#include <vector>

#include "device/roofs.h"
#include "diag/progress.h"
#include "engine/engine.h"
#include "engine/profile.h"

namespace lockstep {

struct BenchTest {
  enum class Kind : uint8_t { kPrefill, kDecode };
  Kind kind = Kind::kDecode;
  int32_t tokens = 128;  // of each sequence
  int32_t batch = 1;     // sequences at once
  int32_t depth = 0;     // tokens each sequence has before the measured ones

  std::string name() const;  // "pp512", "tg128"
};

// Medians over the repetitions.
struct BenchResult {
  BenchTest test;
  int32_t reps = 0;
  double tok_s = 0;  // of all sequences together
  double sd = 0;     // of tok_s over the repetitions
  double warmup_tok_s = 0;
  double step_us = 0;
  double device_us = 0;  // of step_us the device worked, in one more repetition; on a device alone
  double idle_us = 0;    // and waited for the host
  double rows = 0;       // of a step, mean
  double bytes = 0;      // of a step, mean: by the cost model
  double flop = 0;
  std::string roof;                  // which binds: "read", "copy", "flop"
  double roof_share = 0;             // time at the roofs / measured time
  double weight_gb_s = 0;            // bytes of weights per measured second
  double weight_share = 0;           // of the measured read rate
  double gflop_s = 0;                // 2 * active parameters without the head * rows / measured second
  double gflop_share = 0;            // of the measured rate of products
  std::vector<ProfileLine> profile;  // when asked for
};

struct BenchOptions {
  std::vector<BenchTest> tests;
  int32_t reps = 5;
  uint64_t seed = 0;  // of the random tokens
  bool profile = false;
  ProgressOptions progress;
};

struct BenchReport {
  CpuInfo cpu;
  Roofs roofs;  // the best of a measurement before and one after the tests
  std::vector<BenchResult> results;
};

// Which sizes of a config the user chose; bench chooses the others.
struct ChosenSizes {
  bool max_model_len = false;
  bool max_num_seqs = false;
  bool max_num_batched_tokens = false;
  bool chunk_size = false;
  bool num_pages = false;
};

// Sizes that hold the tests and little more: a prompt of up to 2048 tokens is one chunk. A depth before a
// prefill is rounded up to whole chunks in `tests`, since only whole steps are timed.
// `room`: tokens that each sequence has room for at least. Errors: kInvalidArgument for tests without tokens,
// batches or repetitions.
Result<EngineConfig> bench_config(const EngineConfig& config, const ChosenSizes& chosen,
                                  std::vector<BenchTest>& tests, int32_t room = 0);

// Errors: as Engine::add; kInternal when a step fails; kResourceExhausted without memory for the roofs.
Result<BenchReport> run_bench(Engine& engine, const BenchOptions& options);

}  // namespace lockstep
