#include "schedule/policy.h"

#include <algorithm>

#include "base/math.h"

namespace lockstep {
namespace {

// The state of one decision while candidates are visited.
struct Draft {
  std::span<const Candidate> candidates;
  const PolicyLimits& limits;
  Decision decision;
  int32_t rows_left;
  int32_t pages_left;
  int32_t last;            // candidates from here on were preempted or do not run
  int32_t pages_owed = 0;  // that running sequences need for the tokens they have, beyond this step

  // Takes pages from the latest running sequence after `i`, or from `i` itself when it is the latest.
  bool make_room(int32_t i, int32_t pages) {
    while (pages > pages_left) {
      do {
        --last;
      } while (last > i && !candidates[static_cast<size_t>(last)].running);
      pages_left += candidates[static_cast<size_t>(last)].pages;
      decision.preempt.push_back(last);
      if (last == i) return false;
    }
    return true;
  }

  void grant(int32_t i, int32_t rows, int32_t pages) {
    decision.rows[static_cast<size_t>(i)] = rows;
    rows_left -= rows;
    pages_left -= pages;
  }
};

int32_t new_pages(const Candidate& candidate, int32_t tokens, int32_t page_tokens) {
  return std::max(0, ceil_div(tokens, page_tokens) - candidate.pages);
}

void schedule_running(Draft& draft) {
  for (int32_t i = 0; i < draft.last; ++i) {
    const Candidate& candidate = draft.candidates[static_cast<size_t>(i)];
    if (!candidate.running) continue;
    draft.pages_owed += new_pages(candidate, candidate.length, draft.limits.page_tokens);
    const int32_t rows = next_share(candidate, draft.limits.chunk_size);
    if (rows > draft.rows_left) continue;  // later ones may be shorter; this one comes first again next step
    const int32_t pages = new_pages(candidate, candidate.computed + rows, draft.limits.page_tokens);
    if (!draft.make_room(i, pages)) return;
    draft.grant(i, rows, pages);
    draft.pages_owed -= pages;
  }
}

void admit_waiting(Draft& draft, int32_t running) {
  int32_t slots = std::min(draft.limits.free_slots, draft.limits.max_running - running);
  draft.pages_left -= draft.pages_owed;
  for (int32_t i = 0; i < static_cast<int32_t>(draft.candidates.size()) && slots > 0; ++i) {
    const Candidate& candidate = draft.candidates[static_cast<size_t>(i)];
    if (candidate.running) continue;
    const int32_t rows = next_share(candidate, draft.limits.chunk_size);
    const int32_t whole = new_pages(candidate, candidate.length, draft.limits.page_tokens);
    if (rows > draft.rows_left || whole > draft.pages_left) return;
    draft.grant(i, rows, whole);
    --slots;
  }
}

}  // namespace

int32_t next_share(const Candidate& candidate, int32_t chunk_size) {
  const int32_t boundary = (candidate.computed / chunk_size + 1) * chunk_size;
  return std::min(candidate.length, boundary) - candidate.computed;
}

Decision decide(std::span<const Candidate> candidates, const PolicyLimits& limits) {
  Draft draft{.candidates = candidates,
              .limits = limits,
              .decision = {.rows = std::vector<int32_t>(candidates.size(), 0), .preempt = {}},
              .rows_left = limits.max_rows,
              .pages_left = limits.free_pages,
              .last = static_cast<int32_t>(candidates.size())};
  schedule_running(draft);
  if (draft.decision.preempt.empty()) {
    const auto running =
        std::count_if(candidates.begin(), candidates.end(), [](const Candidate& c) { return c.running; });
    admit_waiting(draft, static_cast<int32_t>(running));
  }
  return draft.decision;
}

}  // namespace lockstep
