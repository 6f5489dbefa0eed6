// Options and sequences that the tests of this layer begin with.
#pragma once

#include "schedule/scheduler.h"

namespace lockstep {

inline constexpr GroupId kPages(0), kStates(1);

inline SchedulerOptions options_with(bool states) {
  SchedulerOptions options{.kv_group = kPages, .state_group = kStates};
  options.max_running = 4;
  options.max_rows = 16;
  options.chunk_size = 8;
  StepLimits& limits = options.limits;
  limits = {.max_rows = 16,
            .max_seqs = 8,
            .max_logits_rows = 8,
            .max_seq_len = 64,
            .max_edits = 64,
            .max_copies = 0,
            .vocab_size = 50,
            .penalty_slots = 5,
            .num_groups = states ? 2 : 1};
  limits.groups[0] = {.kind = GroupKind::kPaged,
                      .page_tokens = 4,
                      .kernel_page_tokens = 4,
                      .num_pages = 17,
                      .table_rows = 5,
                      .max_pages_per_seq = 16};
  if (states) limits.groups[1] = {.kind = GroupKind::kState, .num_pages = 5};
  return options;
}

inline Sequence sequence_of(int32_t prompt, uint64_t id = 1) {
  Sequence sequence{.id = id, .prompt_len = prompt};
  for (int32_t i = 0; i < prompt; ++i) sequence.tokens.emplace_back(i % 50);
  return sequence;
}

}  // namespace lockstep
