// How context parallelism cuts the rows of a step: 2 * ranks chunks per sequence whose lengths differ by one
// at most, the longer ones first; rank r runs chunk r and its mirror image, so that early rows, which see few
// keys, and late ones, which see many, balance.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "base/units.h"
#include "plan/limits.h"

namespace lockstep {

struct SequenceStep;

struct CpCut {
  int32_t ranks = 1;
  int32_t rank = 0;
  bool operator==(const CpCut&) const = default;
};

// Rows [begin, begin + rows) of those that a sequence has in the step.
struct CpChunk {
  int32_t begin = 0;
  int32_t rows = 0;
};
// Chunk `c` of 2 * ranks. Precondition: 0 <= c < 2 * ranks.
constexpr CpChunk cp_chunk(int32_t rows, int32_t c, int32_t ranks) {
  const int32_t base = rows / (2 * ranks), longer = rows % (2 * ranks);
  return {c * base + std::min(c, longer), base + (c < longer ? 1 : 0)};
}
constexpr int32_t cp_owner(int32_t c, int32_t ranks) { return c < ranks ? c : 2 * ranks - 1 - c; }
constexpr CpChunk cp_early(int32_t rows, const CpCut& cut) { return cp_chunk(rows, cut.rank, cut.ranks); }
constexpr CpChunk cp_late(int32_t rows, const CpCut& cut) {
  return cp_chunk(rows, 2 * cut.ranks - 1 - cut.rank, cut.ranks);
}

// Whether the ranks share the rows of a step: where some sequence has more than one. Else each runs all of
// them, for a row alone leaves nothing to share.
bool cp_cuts(std::span<const SequenceStep> sequences, int32_t ranks);
// What one bucket for all ranks has to hold: as many rows as the rank with the most has, and the sequences of
// a plan beside those pad sequences that fill up the rank with the least.
struct CpExtent {
  int64_t rows = 0;
  int64_t least_rows = 0;
  int64_t seqs = 0;
};
CpExtent cp_extent(std::span<const SequenceStep> sequences, int32_t ranks);
// The least bucket of `rows` rows for the plans of all ranks of such a step, the pad sequences included that
// fill up those which have fewer. It may be beyond the limits: the builder says so.
// Precondition: rows >= cp_extent(sequences, limits.cp_ranks).rows.
Bucket bucket_of(const StepLimits& limits, std::span<const SequenceStep> sequences, int64_t rows);

}  // namespace lockstep
