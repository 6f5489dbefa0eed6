#include "plan/cp_shares.h"

#include <algorithm>
#include <vector>

namespace lockstep {
namespace {

struct Chunk {
  int64_t start = 0;
  int64_t length = 0;
  int32_t rank = 0;
};

struct Finding {
  size_t sequence = 0;
  int32_t rank = 0;
  std::string expected;
  std::string found;
};

Status refuse(const CpStep& step, Finding finding) {
  return broken({.check = "P9",
                 .moment = Moment::kPlan,
                 .consumer = "",
                 .field = "cp_segments",
                 .row = static_cast<int64_t>(finding.sequence),
                 .rank = finding.rank,
                 .step = step.epoch.get(),
                 .expected = std::move(finding.expected),
                 .found = std::move(finding.found)});
}

std::string span_text(int64_t first, int64_t last) {
  return first == last ? concat("position ", first) : concat("positions ", first, "..", last);
}

// Empty chunks own no position, wherever they say that they begin.
std::vector<Chunk> chunks_of(std::span<const CpShare> shares, size_t sequence) {
  std::vector<Chunk> chunks;
  for (const CpShare& share : shares) {
    for (const CpSegment& segment : {share.segments[sequence].prev, share.segments[sequence].next})
      chunks.push_back({.start = segment.start.get(), .length = segment.length.get(), .rank = share.rank});
  }
  std::stable_sort(chunks.begin(), chunks.end(),
                   [](const Chunk& a, const Chunk& b) { return a.start < b.start; });
  return chunks;
}

// Every position of the step's rows has one owner.
Status check_cover(const CpStep& step, size_t s, std::span<const Chunk> chunks) {
  int64_t next = step.computed_lens[s].get();
  const int64_t end = step.seq_lens[s].get();
  int32_t before = -1;  // the rank that holds the position before `next`
  for (const Chunk& chunk : chunks) {
    if (chunk.length == 0) continue;
    if (chunk.length < 0 || chunk.start + chunk.length > end || (before < 0 && chunk.start < next)) {
      return refuse(step,
                    {s, chunk.rank, concat("chunks within positions ", step.computed_lens[s], "..", end - 1),
                     concat(chunk.length, " from ", chunk.start, " in rank ", chunk.rank)});
    }
    if (chunk.start > next) {
      return refuse(step, {s, chunk.rank, "every position in one rank",
                           concat(span_text(next, chunk.start - 1), " in no rank")});
    }
    if (chunk.start < next) {
      return refuse(step,
                    {s, chunk.rank, "every position in one rank",
                     concat(span_text(chunk.start, std::min(next, chunk.start + chunk.length) - 1),
                            before == chunk.rank ? " twice in rank " : concat(" in ranks ", before, " and "),
                            chunk.rank)});
    }
    next = chunk.start + chunk.length;
    before = chunk.rank;
  }
  if (next >= end) return {};
  return refuse(step, {s, std::max(before, 0), "every position in one rank",
                       concat(span_text(next, end - 1), " in no rank")});
}

Status check_balance(const CpStep& step, size_t s, std::span<const Chunk> chunks) {
  const auto [least, most] = std::minmax_element(
      chunks.begin(), chunks.end(), [](const Chunk& a, const Chunk& b) { return a.length < b.length; });
  if (most->length - least->length <= 1) return {};
  return refuse(step, {s, most->rank, "chunks whose lengths differ by at most one",
                       concat("a chunk of ", most->length, " in rank ", most->rank, " and one of ",
                              least->length, " in rank ", least->rank)});
}

}  // namespace

Status check_cp_shares(std::span<const CpShare> shares, const CpStep& step) {
  const size_t sequences = step.seq_lens.size();
  for (const CpShare& share : shares) {
    if (share.segments.size() != sequences) {
      return refuse(step, {0, share.rank, concat("the segments of ", sequences, " sequences"),
                           concat("of ", share.segments.size(), " sequences in rank ", share.rank)});
    }
  }
  for (size_t s = 0; s < sequences; ++s) {
    const std::vector<Chunk> chunks = chunks_of(shares, s);
    if (chunks.empty()) continue;
    LS_TRY(check_cover(step, s, chunks));
    LS_TRY(check_balance(step, s, chunks));
  }
  for (const CpShare& share : shares) {
    int64_t rows = 0;
    for (const CpSegments& segments : share.segments)
      rows += segments.prev.length.get() + segments.next.length.get();
    if (rows != share.rows) {
      return broken({.check = "P9",
                     .moment = Moment::kPlan,
                     .consumer = "",
                     .field = "num_rows",
                     .row = -1,
                     .rank = share.rank,
                     .step = step.epoch.get(),
                     .expected = concat(rows, ", the rows of its chunks"),
                     .found = concat(share.rows, " in rank ", share.rank)});
    }
  }
  return {};
}

}  // namespace lockstep
