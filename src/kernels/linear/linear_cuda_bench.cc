// linear at the sizes of an 8B model.
#include <algorithm>

#include "kernels/common/device_bench.h"
#include "kernels/linear/linear.h"

namespace lockstep {
namespace {

struct LinearShape {
  const char* name;
  int64_t k, n;
};
constexpr LinearShape kShapes[] = {{"qkv", 4096, 6144},
                                   {"o", 4096, 4096},
                                   {"gate_up", 4096, 24576},
                                   {"down", 12288, 4096},
                                   {"logits", 4096, 151936}};

Status time_linear(DeviceBench& bench, const LinearShape& shape, int64_t rows) {
  const std::string name = concat("linear ", shape.name, " ", rows, " rows");
  if (!bench.wants(name)) return {};
  const int64_t mark = bench.arena().mark(), bytes = shape.n * shape.k * 2;
  const int64_t copies = DeviceBench::copies(bytes);
  const TensorView weights = LS_TRY(bench.random(DType::kBF16, {copies, shape.n * shape.k}));
  const int64_t scratch = linear_workspace_bytes(rows, shape.k);
  LinearArgs args{.x = LS_TRY(bench.random(DType::kF32, {rows, shape.k})),
                  .weight = {},
                  .out = LS_TRY(bench.random(DType::kF32, {rows, shape.n})),
                  .workspace = LS_TRY(bench.arena().allocate("workspace", DType::kU8, {scratch})),
                  .num_rows = LS_TRY(bench.count<LiveRows>(static_cast<int32_t>(rows))),
                  .input = MatmulInput::kBF16};
  const auto flop = static_cast<double>(2 * rows * shape.n * shape.k);
  const auto moved = static_cast<double>(bytes + rows * (shape.n + shape.k) * 4);
  BenchRow row{.name = name, .bytes = moved, .flop = flop, .limit = "reading the weights"};
  if (rows > 512) row.limit = "bf16 products, of the library";
  LS_TRY(bench.time(row, std::max<int64_t>(copies, 8), [&](int64_t i) {
    args.weight = {.data = weights.rows(i % copies, 1).data,
                   .dtype = DType::kBF16,
                   .layout = WeightLayout::kRowMajor,
                   .n = shape.n,
                   .k = shape.k,
                   .expert_stride = shape.n * shape.k};
    return linear(bench.on(), args, "bench");
  }));
  return bench.arena().reset_to(mark);
}

}  // namespace

Status bench_linear(DeviceBench& bench) {
  for (const int64_t rows : {1, 8, 32, 128, 1024}) {
    for (const LinearShape& shape : kShapes) LS_TRY(time_linear(bench, shape, rows));
  }
  return {};
}

}  // namespace lockstep
