// gated_delta and lightning at the sizes of released models: 16 key heads and 32 value heads of 128 elements,
// and 32 heads of 128.
#include <algorithm>

#include "kernels/common/device_bench.h"
#include "kernels/gated_delta/gated_delta.h"
#include "kernels/lightning/lightning.h"

namespace lockstep {
namespace {

constexpr int64_t kHeads = 32, kSize = 128;

struct Sizes {
  const char* name;
  int64_t key_heads;
  int64_t sequences;
  int64_t rows;  // of each
  MatmulInput input;
  const char* limit;

  bool is_delta() const { return key_heads < kHeads; }
  int64_t all_rows() const { return sequences * rows; }
  // States are read and written, inputs read, outputs written.
  double bytes() const {
    const auto per_row = static_cast<double>((2 * key_heads + 2 * kHeads) * kSize * 4);
    return 2.0 * 4 * static_cast<double>(sequences * kHeads * kSize * kSize) +
           static_cast<double>(all_rows()) * per_row;
  }
  // Of the recurrence: a sum over the state where it is corrected, its change, and a sum for the output.
  double flop() const {
    return 2.0 * (is_delta() ? 3 : 2) * static_cast<double>(all_rows() * kHeads * kSize * kSize);
  }
};
constexpr MatmulInput kF32 = MatmulInput::kF32, kBF16 = MatmulInput::kBF16;
constexpr const char* kChunks = "latency of one chunk after the other";
constexpr const char* kStates = "reading and writing states";
constexpr Sizes kSizes[] = {
    {"gated delta 1 x 8192 rows", 16, 1, 8192, kBF16, kChunks},
    {"gated delta 8 x 1024 rows", 16, 8, 1024, kBF16, kChunks},
    {"gated delta 1 x 8192 rows, f32", 16, 1, 8192, kF32, "f32 products row by row, no chunks"},
    {"gated delta 32 x 1 row", 16, 32, 1, kBF16, kStates},
    {"gated delta 256 x 1 row", 16, 256, 1, kBF16, kStates},
    {"lightning 1 x 8192 rows", 32, 1, 8192, kBF16, kChunks},
    {"lightning 1 x 8192 rows, f32", 32, 1, 8192, kF32, "f32 products row by row, no chunks"},
    {"lightning 32 x 1 row", 32, 32, 1, kBF16, kStates},
    {"lightning 256 x 1 row", 32, 256, 1, kBF16, kStates}};

// What the plan says of sequences, for each copy of the states: copy c has the slots from 1 + c S on.
struct Plan {
  TensorView starts, read_slots, write_slots, has_state;
  const LiveRows* num_rows = nullptr;
  const LiveSeqs* num_seqs = nullptr;

  static Result<Plan> make(DeviceBench& bench, const Sizes& sizes, int64_t copies) {
    std::vector<int32_t> starts, reads, writes;
    for (int64_t s = 0; s <= sizes.sequences; ++s) starts.push_back(static_cast<int32_t>(s * sizes.rows));
    for (int64_t slot = 1; slot <= copies * sizes.sequences; ++slot) {
      reads.push_back(static_cast<int32_t>(slot));
      writes.insert(writes.end(), static_cast<size_t>(sizes.rows - 1), -1);
      writes.push_back(static_cast<int32_t>(slot));
    }
    const std::vector<int32_t> ones(static_cast<size_t>(sizes.sequences), 1);
    Plan plan;
    plan.starts = LS_TRY(bench.upload(starts, {sizes.sequences + 1}));
    plan.read_slots = LS_TRY(bench.upload(reads, {copies, sizes.sequences}));
    plan.write_slots = LS_TRY(bench.upload(writes, {copies, sizes.all_rows()}));
    plan.has_state = LS_TRY(bench.upload(ones, {sizes.sequences}));
    plan.num_rows = LS_TRY(bench.count<LiveRows>(static_cast<int32_t>(sizes.all_rows())));
    plan.num_seqs = LS_TRY(bench.count<LiveSeqs>(static_cast<int32_t>(sizes.sequences)));
    return plan;
  }
  // Row `copy` of a table of copies.
  static TensorView of(const TensorView& table, int64_t copy) {
    return dense_view(table.rows(copy, 1).as<int32_t>(), DType::kI32, {table.dim(1)});
  }
};

template <typename Args>
Status fill(DeviceBench& bench, const Sizes& sizes, const Plan& plan, int64_t copies, Args& args) {
  const int64_t rows = sizes.all_rows();
  args.q = LS_TRY(bench.random(DType::kF32, {rows, sizes.key_heads, kSize}));
  args.k = LS_TRY(bench.random(DType::kF32, {rows, sizes.key_heads, kSize}));
  args.v = LS_TRY(bench.random(DType::kF32, {rows, kHeads, kSize}));
  args.state = LS_TRY(bench.random(DType::kF32, {copies * sizes.sequences + 1, kHeads, kSize, kSize}));
  args.query_start_loc = plan.starts;
  args.has_initial_state = plan.has_state;
  args.out = LS_TRY(bench.random(DType::kF32, {rows, kHeads, kSize}));
  const int64_t scratch =
      std::max({gated_delta_workspace_bytes(1, kSize, kSize), lightning_workspace_bytes(1, kSize, kSize),
                gated_delta_device_bytes(rows, sizes.key_heads, kHeads, kSize),
                lightning_device_bytes(rows, sizes.key_heads, kHeads, kSize)});
  args.workspace = LS_TRY(bench.arena().allocate("workspace", DType::kU8, {scratch}));
  args.num_rows = plan.num_rows;
  args.num_seqs = plan.num_seqs;
  args.input = sizes.input;
  args.query_len = static_cast<int32_t>(sizes.rows);
  return {};
}

template <typename Args, typename Call>
Status time_op(DeviceBench& bench, const Sizes& sizes, Args& args, Call&& call) {
  const int64_t copies = DeviceBench::copies(static_cast<int64_t>(sizes.bytes()));
  const Plan plan = LS_TRY(Plan::make(bench, sizes, copies));
  LS_TRY(fill(bench, sizes, plan, copies, args));
  const BenchRow row{.name = sizes.name, .bytes = sizes.bytes(), .flop = sizes.flop(), .limit = sizes.limit};
  return bench.time(row, std::max<int64_t>(copies, 2), [&](int64_t i) {
    args.state_read_slot = Plan::of(plan.read_slots, i % copies);
    args.state_write_slots = Plan::of(plan.write_slots, i % copies);
    return call(bench.on(), args, "bench");
  });
}

Status time_sizes(DeviceBench& bench, const Sizes& sizes) {
  if (!bench.wants(sizes.name)) return {};
  const int64_t mark = bench.arena().mark();
  if (sizes.is_delta()) {
    GatedDeltaArgs args;
    args.b = LS_TRY(bench.random(DType::kF32, {sizes.all_rows(), kHeads}));
    args.a = LS_TRY(bench.random(DType::kF32, {sizes.all_rows(), kHeads}));
    args.a_log = LS_TRY(bench.random(DType::kF32, {kHeads}));
    args.dt_bias = LS_TRY(bench.random(DType::kF32, {kHeads}));
    LS_TRY(time_op(bench, sizes, args, gated_delta));
  } else {
    LightningArgs args;
    args.decay = LS_TRY(bench.upload(std::vector<float>(kHeads, 0.99f), {kHeads}));
    LS_TRY(time_op(bench, sizes, args, lightning));
  }
  return bench.arena().reset_to(mark);
}

}  // namespace

Status bench_recurrences(DeviceBench& bench) {
  for (const Sizes& sizes : kSizes) LS_TRY(time_sizes(bench, sizes));
  return {};
}

}  // namespace lockstep
