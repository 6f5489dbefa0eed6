// Engines of several ranks, each on a thread of its own: requests in, tokens out, as one.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace lockstep::testing {

// What the engines of all ranks are given. Request i goes to replica i % dp.
struct RankedWorkload {
  MeshShape shape;
  EngineConfig config;  // without a mesh
  std::vector<Request> requests;
  std::vector<int64_t>
      arrivals;  // before which call of step() each request is added; empty: before the first
  std::function<void(int32_t rank, EngineConfig& config)> of_rank =
      nullptr;  // what a rank has otherwise; null: nothing
};

struct RankedOutcome {
  std::vector<std::vector<TokenLogprobs>> drawn;  // of each request
  std::vector<std::string> errors;                // of ranks and of requests that failed, "rank 2: ..."
  int64_t steps = 0;                              // of the busiest leader
  int64_t replays = 0;                            // of all ranks
  int64_t cut_steps = 0;                          // of all leaders: whose rows context ranks share
};

// Runs to the end. Whatever goes wrong stands in the outcome; nothing waits for ever.
RankedOutcome run_ranked(const RankedWorkload& workload);

// Where two runs first differ, and whether that is a near tie: the two best logits of the reference are
// closer than 4 times the largest difference of a log probability seen so far between the runs.
struct Comparison {
  int64_t tokens = 0;                    // compared
  int64_t near_ties = 0;                 // requests that part there
  std::vector<std::string> differences;  // requests that part elsewhere, in words
  double largest = 0;                    // difference of a token's log probability
};
Comparison compare(const RankedOutcome& reference, const RankedOutcome& other);

// Runs the workload and expects no rank to fail, some replays, and what the reference has drawn. Prints a
// line.
void expect_same(const RankedOutcome& reference, const RankedWorkload& workload);

}  // namespace lockstep::testing
