// Field report 3: context parallelism that worked for one sequence. A rank holds an early and a late chunk of
// every sequence, all early ones in front, and the rows are cut at the sum of the early chunks; one backend
// cut in the middle. Every degree, batch and length that the report asks for, with and without a cached
// prefix. sgl-project/sglang#26705.
#include <algorithm>
#include <vector>

#include "faults/entries.h"
#include "plan/cp_shares.h"

namespace lockstep::faults {
namespace {

struct Batch {
  std::vector<TokenCount> computed;
  std::vector<TokenCount> lengths;  // cached prefixes included
};

// Chunk `c` of `chunks` of a sequence's new rows, the longer ones first.
CpSegment chunk_of(const Batch& batch, size_t s, int32_t c, int32_t chunks) {
  const int32_t begin = batch.computed[s].get(), rows = batch.lengths[s].get() - begin;
  const int32_t base = rows / chunks, longer = rows % chunks;
  return {Position(begin + c * base + std::min(c, longer)), RowCount(base + (c < longer ? 1 : 0))};
}

// What a rank attends with when it takes the first `early` of its rows for early chunks.
void cut_at(int32_t early, std::vector<CpSegments>& own) {
  for (CpSegments& each : own) {
    const int32_t rows = each.prev.length.get() + each.next.length.get();
    const int32_t prev = std::min(each.prev.length.get(), early);
    each.prev.length = RowCount(prev);
    each.next.length = RowCount(rows - prev);
    early -= prev;
  }
}

Status attend(const Batch& batch, int32_t ranks, bool in_the_middle) {
  std::vector<std::vector<CpSegments>> segments(static_cast<size_t>(ranks));
  std::vector<CpShare> shares;
  for (int32_t rank = 0; rank < ranks; ++rank) {
    std::vector<CpSegments>& own = segments[static_cast<size_t>(rank)];
    int32_t rows = 0, early = 0;
    for (size_t s = 0; s < batch.lengths.size(); ++s) {
      own.push_back(
          {chunk_of(batch, s, rank, 2 * ranks), chunk_of(batch, s, 2 * ranks - 1 - rank, 2 * ranks)});
      early += own.back().prev.length.get();
      rows += own.back().prev.length.get() + own.back().next.length.get();
    }
    cut_at(in_the_middle ? rows / 2 : early, own);
    shares.push_back({.rank = rank, .segments = own, .rows = rows});
  }
  return check_cp_shares(shares,
                         {.epoch = Epoch(1), .computed_lens = batch.computed, .seq_lens = batch.lengths});
}

// Uneven lengths, odd ones, some below the number of chunks, one empty.
Batch batch_of(int32_t sequences, int32_t prefix) {
  constexpr int32_t kRows[] = {3, 17, 1, 1025, 64, 7, 0, 333};
  Batch batch;
  for (int32_t s = 0; s < sequences; ++s) {
    batch.computed.emplace_back(s % 2 == 0 ? prefix : 0);
    batch.lengths.emplace_back(batch.computed.back().get() + kRows[s]);
  }
  return batch;
}

Status wrong() {
  Status last;
  for (const int32_t ranks : {2, 4, 8}) {
    for (int32_t sequences = 2; sequences <= 8; ++sequences) {
      last = attend(batch_of(sequences, 100), ranks, true);
      LS_TRY(must_say({.moment = Moment::kPlan, .check = "P9", .field = "cp_segments"}, last));
    }
  }
  return last;
}

Status twin() {
  for (const int32_t ranks : {2, 4, 8}) {
    for (int32_t sequences = 1; sequences <= 8; ++sequences) {
      for (const int32_t prefix : {0, 1, 100}) LS_TRY(attend(batch_of(sequences, prefix), ranks, false));
    }
    // The one batch that the middle is right for.
    LS_TRY(attend({.computed = {TokenCount(0)}, .lengths = {TokenCount(4 * ranks)}}, ranks, true));
  }
  return {};
}

}  // namespace

const Entry kReport3 = {
    .id = "report/3",
    .fault_class = 'r',
    .title = "context parallelism that is right for one sequence",
    .thread = "sgl-project/sglang#26705",
    .expect = {.moment = Moment::kPlan,
               .check = "P9",
               .field = "cp_segments",
               .expected = "every position in one rank",
               .found = "in no rank"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
