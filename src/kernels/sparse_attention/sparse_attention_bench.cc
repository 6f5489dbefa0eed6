// Decoding one token of block-sparse attention on one thread, as the context grows, beside dense attention.
//   kernels_bench --benchmark_filter=sparse
#include <benchmark/benchmark.h>

#include "base/clock.h"
#include "device/roofs.h"
#include "kernels/sparse_attention/sparse_case.h"

namespace lockstep {
namespace {

const Roofs& roofs(Stream& stream) {
  static const Roofs measured = measure_roofs(stream, detect_cpu().best).value();
  return measured;
}

// The heads of MiniCPM-SALA, 96 blocks of 64 keys; bf16. One layer.
constexpr HeadShape kShape{.heads = 32, .kv_heads = 2, .head_dim = 128};
constexpr SelectionRule kRule{.init_blocks = 1, .window_blocks = 32, .most_blocks = 96, .dense_len = 0};

template <typename Run>
double seconds_of(const Run& run) {
  const int64_t start = now_ns();
  LS_CHECK(run().ok());
  return seconds_since(start);
}

// Argument: tokens of the one sequence.
void decode(benchmark::State& state) {
  const int64_t tokens = state.range(0);
  const AttentionBatch batch = AttentionBatch::make(kShape, {{.rows = 1, .cached = tokens - 1}});
  SparseCase placed(batch, {.dtype = DType::kBF16, .page_tokens = 64}, kRule);
  Stream stream(1);
  const Launcher on{kernel_table(detect_cpu().best), stream};
  LS_CHECK(placed.dense().store(on).ok() && placed.compress(on).ok() && placed.select(on).ok());
  std::vector<float> out, dense_out(static_cast<size_t>(kShape.heads * kShape.head_dim));
  double choose = 1e9, attend = 1e9, dense = 1e9, append = 1e9;
  for (auto _ : state) {
    append = std::min(append, seconds_of([&] { return placed.compress(on, tokens - 1); }));
    const SelectBlocksArgs select = placed.select_args(stream.threads());
    choose = std::min(choose, seconds_of([&] { return select_blocks(on, select, "bench"); }));
    const SparseAttentionArgs args = placed.attend_args(out, stream.threads());
    attend = std::min(attend, seconds_of([&] { return sparse_attention(on, args, "bench"); }));
    const PagedAttentionArgs all = placed.dense().args(dense_out, stream.threads());
    dense = std::min(dense, seconds_of([&] { return paged_attention(on, all, "bench"); }));
  }
  state.counters["compress us"] = append * 1e6;
  state.counters["select us"] = choose * 1e6;
  state.counters["attend us"] = attend * 1e6;
  state.counters["sparse us"] = (append + choose + attend) * 1e6;
  state.counters["dense us"] = dense * 1e6;
  const double seen = static_cast<double>(std::min<int64_t>(tokens, 6144)) * 2 * 2 * 128 * 2;
  state.counters["share of read bandwidth"] = seen / attend * 1e-9 / roofs(stream).read_gb_per_s;
}

BENCHMARK(decode)
    ->Name("sparse_decode")
    ->RangeMultiplier(2)
    ->Range(1 << 10, 1 << 16)
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace lockstep
