// Limits of a random engine, for the simulation: one or two groups of pages, states or none, all of them
// small.
#pragma once

#include <random>

#include "plan/limits.h"

namespace lockstep {

inline StepLimits random_limits(std::mt19937_64& random) {
  const auto pick = [&](int32_t least, int32_t most) {
    return std::uniform_int_distribution<int32_t>(least, most)(random);
  };
  const auto chance = [&](double probability) { return std::bernoulli_distribution(probability)(random); };
  StepLimits limits{.max_rows = pick(8, 96),
                    .max_seqs = pick(8, 24),
                    .max_logits_rows = pick(4, 16),
                    .max_seq_len = pick(20, 120),
                    .max_edits = 800,
                    .max_copies = 24,
                    .vocab_size = pick(2, 500),
                    .penalty_slots = pick(0, 6),
                    .mask_slots = pick(0, 3),
                    .dp_ranks = pick(1, 3)};
  const auto add = [&](const CacheGroup& group) {
    limits.groups[static_cast<size_t>(limits.num_groups++)] = group;
  };
  const bool states = chance(0.6);
  const CacheGroup state{.kind = GroupKind::kState, .num_pages = pick(4, 14)};
  if (states && chance(0.5)) add(state);
  for (int32_t paged = pick(states ? 0 : 1, 2); paged > 0; --paged) {
    const int32_t page = 1 << pick(1, 5);
    const int32_t table_rows = pick(4, 14);
    const int32_t per_sequence = limits.max_seq_len / page + 1;
    add({.page_tokens = page,
         .kernel_page_tokens = page / 2,
         .num_pages = table_rows * per_sequence / pick(1, 3) + 2,
         .table_rows = table_rows,
         .max_pages_per_seq = per_sequence});
  }
  if (states && (limits.num_groups == 0 || limits.groups[0].kind == GroupKind::kPaged)) add(state);
  return limits;
}

}  // namespace lockstep
