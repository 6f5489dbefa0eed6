#include "plan/cp_shares.h"

#include <algorithm>
#include <vector>

#include "plan/step_plan.h"

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

// Whether the chunks follow each other in zigzag order, early ones up and late ones down the ranks, the
// longer ones first: all of the sequence then, once.
bool in_zigzag(const CpStep& step, std::span<const CpShare> shares, size_t s) {
  int64_t next = step.computed_lens[s].get();
  const int64_t rows = step.seq_lens[s].get() - next;
  const auto chunks = static_cast<int64_t>(2 * shares.size());
  for (int64_t c = 0; c < chunks; ++c) {
    const bool early = c < chunks / 2;
    const CpSegments& own = shares[static_cast<size_t>(early ? c : chunks - 1 - c)].segments[s];
    const CpSegment& chunk = early ? own.prev : own.next;
    if (chunk.start.get() != next || chunk.length.get() != rows / chunks + (c < rows % chunks ? 1 : 0))
      return false;
    next += chunk.length.get();
  }
  return true;
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
    if (in_zigzag(step, shares, s)) continue;
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

namespace {

// What a plan says of the sequences of its step.
struct Said {
  std::vector<TokenCount> computed;
  std::vector<TokenCount> lengths;
};

Said said_by(const StepPlan& plan, size_t sequences) {
  Said said;
  for (const CpSegment& span : plan.get(field::cp_spans).first(sequences)) {
    said.computed.emplace_back(span.start.get());
    said.lengths.emplace_back(span.start.get() + span.length.get());
  }
  return said;
}

}  // namespace

Status check_cp_plans(std::span<const StepPlan> plans) {
  if (plans.empty() || plans[0].scalar(field::cp_ranks) == 1) return {};
  const auto sequences = static_cast<size_t>(plans[0].scalar(field::num_seqs).get() / 2);
  const Said said = said_by(plans[0], sequences);
  const CpStep step{
      .epoch = plans[0].scalar(field::epoch), .computed_lens = said.computed, .seq_lens = said.lengths};
  std::vector<CpShare> shares;
  for (const StepPlan& plan : plans) {
    const auto rank = static_cast<int32_t>(shares.size());
    if (plan.scalar(field::cp_rank) != rank) {
      return broken({.check = "P9",
                     .moment = Moment::kPlan,
                     .consumer = "",
                     .field = "cp_rank",
                     .row = -1,
                     .rank = rank,
                     .step = step.epoch.get(),
                     .expected = concat(rank),
                     .found = concat(plan.scalar(field::cp_rank), " in rank ", rank)});
    }
    const auto halves = static_cast<size_t>(plan.scalar(field::num_seqs).get() / 2);
    shares.push_back({.rank = rank,
                      .segments = plan.get(field::cp_segments).first(halves),
                      .rows = plan.scalar(field::num_rows).get()});
  }
  return check_cp_shares(shares, step);
}

}  // namespace lockstep
