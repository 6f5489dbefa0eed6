// Who runs in the next step: one pure function of counts.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace lockstep {

// One sequence as the policy sees it; candidates stand in order of arrival.
struct Candidate {
  int32_t length = 0;    // tokens it has
  int32_t computed = 0;  // of them cached
  int32_t pages = 0;     // pages it holds
  bool running = false;  // holds a table row and, where needed, a state
};

struct PolicyLimits {
  int32_t max_rows = 0;     // rows of a step
  int32_t max_running = 0;  // sequences that may hold resources at once
  int32_t chunk_size = 0;   // rows of a prompt chunk; at most max_rows
  int32_t page_tokens = 0;
  int32_t free_pages = 0;
  int32_t free_slots = 0;  // table rows and states for new sequences
};

struct Decision {
  std::vector<int32_t> rows;     // per candidate: rows in this step; 0: it waits
  std::vector<int32_t> preempt;  // candidates that give everything back before the step, latest first
};

// Rows of a sequence's next share: everything up to the next multiple of chunk_size, counted from its first
// token. A share is never cut short by the step's budget, so where a prompt is cut depends on the sequence
// alone (docs/decisions/0004).
int32_t next_share(const Candidate& candidate, int32_t chunk_size);

// In order of arrival: running sequences get their share, and when pages run out the latest running ones are
// preempted; then, if nobody was, waiting sequences are admitted while their whole length fits beside what
// the running ones still need for theirs. The first waiting sequence that does not fit ends admission: nobody
// overtakes. Cost: O(candidates).
Decision decide(std::span<const Candidate> candidates, const PolicyLimits& limits);

}  // namespace lockstep
