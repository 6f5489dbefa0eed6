#include "kernels/common/device_math.cuh"
#include "kernels/cuda_kernels.h"
#include "kernels/plan_check/digest.cuh"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int64_t kNone = int64_t{1} << 62;

// One block per range.
__global__ void __launch_bounds__(kDigestThreads) digest_ranges(const __grid_constant__ PlanDigestArgs args) {
  const auto* ranges = static_cast<const int64_t*>(args.ranges.data);
  auto* out = static_cast<uint64_t*>(args.out.data);
  if (blockIdx.x == 0 && threadIdx.x == 0) out[0] = args.epoch->get();
  const int64_t i = int64_t{blockIdx.x} - 1, room = dim(args.image, 0);
  if (i < 0) return;
  const int64_t offset = ranges[2 * i], size = ranges[2 * i + 1];
  const bool inside = offset >= 0 && size >= 0 && size <= room && offset <= room - size;
  const auto* image = static_cast<const unsigned char*>(args.image.data);
  const uint64_t digest = inside ? block_digest(image + offset, size) : 0;
  if (threadIdx.x == 0) out[1 + i] = digest;
}

// Zeros: the structure holds. Without initial values, since warps share some.
struct Finding {
  StructureRule rule;
  int64_t index;
  int64_t found;
  int64_t expected;
};
static_assert(StructureRule::kHolds == StructureRule{});

__device__ Finding check_rows(const PlanStructureArgs& args, int64_t sequences) {
  const auto* starts = static_cast<const int32_t*>(args.query_start_loc.data);
  const auto* lens = static_cast<const int32_t*>(args.seq_lens.data);
  if (starts[0] != 0) return {StructureRule::kStartsAtZero, 0, starts[0], 0};
  int64_t falls = kNone, unfit = kNone;
  for (int64_t s = sequences - 1 - threadIdx.x; s >= 0; s -= kThreads) {
    if (starts[s + 1] < starts[s]) falls = s;
    if (lens[s] < int64_t{starts[s + 1]} - starts[s]) unfit = s;
  }
  falls = block_min<kThreads>(falls);
  unfit = block_min<kThreads>(unfit);
  if (falls != kNone) return {StructureRule::kNeverFalls, falls + 1, starts[falls + 1], starts[falls]};
  const int32_t rows = args.num_rows->get();
  if (starts[sequences] != rows) return {StructureRule::kEndsAtNumRows, sequences, starts[sequences], rows};
  if (unfit == kNone) return {};
  return {StructureRule::kRowsFitLength, unfit, lens[unfit], int64_t{starts[unfit + 1]} - starts[unfit]};
}

// The part of a row's digest that one entry makes: table_entry_digest().
__device__ uint64_t entry_digest(int64_t index, int32_t page) {
  return mix(static_cast<uint64_t>(static_cast<uint32_t>(index)) + 1, static_cast<uint32_t>(page));
}

// By a warp: all lanes come to the same finding.
__device__ Finding check_table(const PlanStructureArgs& args, int64_t sequence) {
  const int64_t table_rows = dim(args.page_table, 0), width = dim(args.page_table, 1);
  const int64_t r = static_cast<const int32_t*>(args.table_rows.data)[sequence];
  const int64_t len = static_cast<const int32_t*>(args.seq_lens.data)[sequence];
  const uint64_t expected = static_cast<const uint64_t*>(args.table_digests.data)[sequence];
  if (r < 1 || r >= table_rows) return {StructureRule::kTableRowExists, sequence, r, table_rows};
  const int64_t count = (len + args.page_tokens - 1) / args.page_tokens;
  if (count > width) return {StructureRule::kPagesFitTable, sequence, count, width};
  const int32_t* pages = row<const int32_t>(args.page_table, r);
  int64_t bad = kNone;
  uint64_t digest = 0;
  for (int64_t i = threadIdx.x % kWarp; i < count; i += kWarp) {
    const int32_t page = pages[i];
    if ((page < 1 || page >= args.num_pages) && bad == kNone) bad = i;
    digest ^= entry_digest(i, page);
  }
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const int64_t other = __shfl_xor_sync(kAllLanes, bad, offset);
    bad = other < bad ? other : bad;
    digest ^= __shfl_xor_sync(kAllLanes, digest, offset);
  }
  if (bad != kNone) return {StructureRule::kPageExists, r * width + bad, pages[bad], args.num_pages};
  if (digest == expected) return {};
  return {StructureRule::kTableDigest, sequence, static_cast<int64_t>(digest),
          static_cast<int64_t>(expected)};
}

// The tables whose turn it is, around the live sequences; each warp has one at a time.
__device__ Finding check_tables(const PlanStructureArgs& args, int64_t sequences) {
  constexpr int kWarps = kThreads / kWarp;
  __shared__ Finding findings[kWarps];
  if (args.page_table.data == nullptr || sequences == 0) return {};
  const int64_t count = args.tables < sequences ? args.tables : sequences;
  const auto there = static_cast<uint64_t>(sequences);
  const auto first = static_cast<int64_t>(args.epoch->get() % there * static_cast<uint64_t>(count) % there);
  for (int64_t i = 0; i < count; i += kWarps) {
    const int64_t own = i + threadIdx.x / kWarp, s = first + own;
    const Finding finding = own < count ? check_table(args, s < sequences ? s : s - sequences) : Finding{};
    __syncthreads();
    if (threadIdx.x % kWarp == 0) findings[threadIdx.x / kWarp] = finding;
    __syncthreads();
    for (const Finding& each : findings) {
      if (each.rule != StructureRule::kHolds) return each;
    }
  }
  return {};
}

__device__ Finding check_structure(const PlanStructureArgs& args) {
  const int64_t sequences = args.num_seqs->get(), room = dim(args.seq_lens, 0);
  if (sequences < 0 || sequences > room) return {StructureRule::kSequencesFit, 0, sequences, room};
  const Finding rows = check_rows(args, sequences);
  return rows.rule == StructureRule::kHolds ? check_tables(args, sequences) : rows;
}

// One block; every thread comes to the same finding.
__global__ void __launch_bounds__(kThreads) find_broken(const __grid_constant__ PlanStructureArgs args) {
  const Finding finding = check_structure(args);
  if (threadIdx.x != 0) return;
  auto* out = static_cast<int64_t*>(args.out.data);
  out[0] = static_cast<int64_t>(finding.rule);
  out[1] = finding.index;
  out[2] = finding.found;
  out[3] = finding.expected;
}

}  // namespace

void plan_digest(const PlanDigestArgs& args, Worker worker) {
  launch_grid(worker, digest_ranges, {blocks_of(args.ranges.dim(0) + 1), kDigestThreads}, args);
}

void plan_structure(const PlanStructureArgs& args, Worker worker) {
  launch_grid(worker, find_broken, {blocks_of(1), kThreads}, args);
}

}  // namespace lockstep::cuda
