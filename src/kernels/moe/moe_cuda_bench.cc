// moe_experts at the sizes of Qwen3-30B-A3B: 8 of 128 experts a row, width 2048, experts 768 wide.
#include <algorithm>
#include <random>
#include <set>

#include "kernels/common/device_bench.h"
#include "kernels/moe/moe.h"

namespace lockstep {
namespace {

constexpr int64_t kExperts = 128, kChoices = 8, kWidth = 2048, kExpertWidth = 768;
constexpr int64_t kElements = 3 * kWidth * kExpertWidth;  // of an expert
constexpr int64_t kCopies = 3;                            // of all weights: 3.4 GiB

// Distinct experts per row, and how many there are in all.
std::vector<int32_t> choose(int64_t rows, uint32_t seed, std::set<int32_t>& all) {
  std::mt19937 random(seed);
  std::vector<int32_t> ids;
  for (int64_t t = 0; t < rows; ++t) {
    std::set<int32_t> own;
    while (std::ssize(own) < kChoices) own.insert(static_cast<int32_t>(random() % kExperts));
    ids.insert(ids.end(), own.begin(), own.end());
    all.insert(own.begin(), own.end());
  }
  return ids;
}

PackedWeight weight_of(const TensorView& memory, int64_t copy, int64_t n, int64_t k) {
  return {.data = memory.rows(copy, 1).data,
          .dtype = DType::kBF16,
          .layout = WeightLayout::kRowMajor,
          .experts = kExperts,
          .n = n,
          .k = k,
          .expert_stride = n * k};
}

Status time_moe(DeviceBench& bench, int64_t rows) {
  const std::string name = concat("moe 8 of 128, ", rows, " rows");
  if (!bench.wants(name)) return {};
  const int64_t mark = bench.arena().mark();
  std::set<int32_t> read;
  const std::vector<int32_t> ids = choose(rows, 7, read);
  const TensorView gate_up =
      LS_TRY(bench.random(DType::kBF16, {kCopies, kExperts * 2 * kExpertWidth * kWidth}));
  const TensorView down = LS_TRY(bench.random(DType::kBF16, {kCopies, kExperts * kExpertWidth * kWidth}));
  const int64_t scratch = moe_workspace_bytes(rows, kChoices, kExperts, kWidth, kExpertWidth);
  MoeExpertsArgs args{.x = LS_TRY(bench.random(DType::kF32, {rows, kWidth})),
                      .expert_ids = LS_TRY(bench.upload(ids, {rows, kChoices})),
                      .expert_weights = LS_TRY(bench.random(DType::kF32, {rows, kChoices})),
                      .out = LS_TRY(bench.random(DType::kF32, {rows, kWidth})),
                      .workspace = LS_TRY(bench.arena().allocate("workspace", DType::kU8, {scratch})),
                      .num_rows = LS_TRY(bench.count<LiveRows>(static_cast<int32_t>(rows))),
                      .input = MatmulInput::kBF16};
  const double weights = 2.0 * kElements * static_cast<double>(read.size());
  const BenchRow row{.name = name,
                     .bytes = weights + static_cast<double>(rows * kWidth * 8),
                     .flop = 2.0 * kElements * static_cast<double>(rows * kChoices),
                     .limit = rows == 1     ? "five launches"
                              : rows < 2048 ? "reading the weights"
                                            : "sums of choices in f32 through memory; partial tiles"};
  LS_TRY(bench.time(row, 2 * kCopies, [&](int64_t i) {
    args.gate_up = weight_of(gate_up, i % kCopies, 2 * kExpertWidth, kWidth);
    args.down = weight_of(down, i % kCopies, kWidth, kExpertWidth);
    return moe_experts(bench.on(), args, "bench");
  }));
  return bench.arena().reset_to(mark);
}

}  // namespace

Status bench_moe(DeviceBench& bench) {
  for (const int64_t rows : {1, 8, 32, 128, 512, 2048, 4096}) LS_TRY(time_moe(bench, rows));
  return {};
}

}  // namespace lockstep
