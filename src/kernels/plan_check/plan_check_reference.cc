#include "base/digest.h"
#include "base/math.h"
#include "base/table_digest.h"
#include "kernels/plan_check/plan_check_kernels.h"

namespace lockstep::reference {
namespace {

struct Finding {
  StructureRule rule = StructureRule::kHolds;
  int64_t index = 0;
  int64_t found = 0;
  int64_t expected = 0;

  bool holds() const { return rule == StructureRule::kHolds; }
};

Finding check_rows(const PlanStructureArgs& args, int64_t sequences) {
  const auto* starts = args.query_start_loc.as<const int32_t>();
  const auto* lens = args.seq_lens.as<const int32_t>();
  if (starts[0] != 0) return {StructureRule::kStartsAtZero, 0, starts[0], 0};
  for (int64_t s = 0; s < sequences; ++s) {
    if (starts[s + 1] < starts[s]) return {StructureRule::kNeverFalls, s + 1, starts[s + 1], starts[s]};
  }
  const int32_t rows = args.num_rows->get();
  if (starts[sequences] != rows) return {StructureRule::kEndsAtNumRows, sequences, starts[sequences], rows};
  for (int64_t s = 0; s < sequences; ++s) {
    const int64_t own = int64_t{starts[s + 1]} - starts[s];
    if (lens[s] < own) return {StructureRule::kRowsFitLength, s, lens[s], own};
  }
  return {};
}

Finding check_table(const PlanStructureArgs& args, int64_t sequence) {
  const int64_t table_rows = args.page_table.dim(0), width = args.page_table.dim(1);
  const int64_t row = args.table_rows.as<const int32_t>()[sequence];
  if (row < 1 || row >= table_rows) return {StructureRule::kTableRowExists, sequence, row, table_rows};
  const int64_t len = args.seq_lens.as<const int32_t>()[sequence];
  const int64_t count = ceil_div<int64_t>(len, args.page_tokens);
  if (count > width) return {StructureRule::kPagesFitTable, sequence, count, width};
  const int32_t* pages = args.page_table.as<const int32_t>() + row * args.page_table.stride(0);
  Digest digest = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (pages[i] < 1 || pages[i] >= args.num_pages) {
      return {StructureRule::kPageExists, row * width + i, pages[i], args.num_pages};
    }
    digest ^= table_entry_digest(static_cast<int32_t>(i), PageId(pages[i]));
  }
  const Digest expected = args.table_digests.as<const uint64_t>()[sequence];
  if (digest == expected) return {};
  return {StructureRule::kTableDigest, sequence, static_cast<int64_t>(digest),
          static_cast<int64_t>(expected)};
}

// The tables whose turn it is, around the live sequences.
Finding check_tables(const PlanStructureArgs& args, int64_t sequences) {
  if (!args.page_table || sequences == 0) return {};
  const int64_t count = args.tables < sequences ? args.tables : sequences;
  const auto live = static_cast<uint64_t>(sequences);
  auto s = static_cast<int64_t>(args.epoch->get() % live * static_cast<uint64_t>(count) % live);
  for (int64_t i = 0; i < count; ++i) {
    const Finding finding = check_table(args, s);
    if (!finding.holds()) return finding;
    s = s + 1 < sequences ? s + 1 : 0;
  }
  return {};
}

Finding check_structure(const PlanStructureArgs& args) {
  const int64_t sequences = args.num_seqs->get(), room = args.seq_lens.dim(0);
  if (sequences < 0 || sequences > room) return {StructureRule::kSequencesFit, 0, sequences, room};
  const Finding rows = check_rows(args, sequences);
  return rows.holds() ? check_tables(args, sequences) : rows;
}

}  // namespace

void plan_digest(const PlanDigestArgs& args, Worker worker) {
  if (worker.index != 0) return;
  const auto* image = args.image.as<const unsigned char>();
  const auto* ranges = args.ranges.as<const int64_t>();
  auto* out = args.out.as<uint64_t>();
  out[0] = args.epoch->get();
  const int64_t room = args.image.dim(0);
  for (int64_t i = 0; i < args.ranges.dim(0); ++i) {
    const int64_t offset = ranges[2 * i], size = ranges[2 * i + 1];
    const bool inside = offset >= 0 && size >= 0 && size <= room && offset <= room - size;
    out[1 + i] = inside ? digest_bytes(image + offset, static_cast<size_t>(size)) : 0;
  }
}

void plan_structure(const PlanStructureArgs& args, Worker worker) {
  if (worker.index != 0) return;
  const Finding finding = check_structure(args);
  auto* out = args.out.as<int64_t>();
  out[0] = static_cast<int64_t>(finding.rule);
  out[1] = finding.index;
  out[2] = finding.found;
  out[3] = finding.expected;
}

}  // namespace lockstep::reference
