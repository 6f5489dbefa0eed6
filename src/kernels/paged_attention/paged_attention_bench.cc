// paged_attention as a share of what this machine's memory or arithmetic could do.
//   kernels_bench --benchmark_filter=attention
#include <benchmark/benchmark.h>

#include "base/clock.h"
#include "device/roofs.h"
#include "kernels/paged_attention/attention_case.h"

namespace lockstep {
namespace {

const Roofs& roofs(Stream& stream) {
  static const Roofs measured = measure_roofs(stream, detect_cpu().best).value();
  return measured;
}

KvLayout layout_of(const char* id) { return parse_kv_layout(id).value(); }

// The best of many calls: other work on the machine can only make one slower.
double best_seconds(benchmark::State& state, AttentionCase& batch, Stream& stream) {
  const Launcher on{kernel_table(detect_cpu().best), stream};
  LS_CHECK(batch.store(on).ok());
  std::vector<float> out(static_cast<size_t>(batch.rows_total() * batch.row_elements()));
  const PagedAttentionArgs args = batch.args(out, stream.threads());
  double best = 1e9;
  for (auto _ : state) {
    const int64_t start = now_ns();
    LS_CHECK(paged_attention(on, args, "bench").ok());
    best = std::min(best, seconds_since(start));
  }
  return best;
}

// Arguments: sequences, tokens of each, query heads of 8 kv heads, head size. One row each, bf16 cache.
void decode(benchmark::State& state, const char* layout) {
  const HeadShape shape{.heads = static_cast<int32_t>(state.range(2)),
                        .kv_heads = 8,
                        .head_dim = static_cast<int32_t>(state.range(3))};
  std::vector<SequenceShape> sequences;
  for (int64_t s = 0; s < state.range(0); ++s) {
    sequences.push_back({.rows = 1, .cached = state.range(1) - 1, .seed = 1});
  }
  const AttentionBatch values = AttentionBatch::make(shape, sequences);
  AttentionCase batch(values, {.layout = layout_of(layout), .dtype = DType::kBF16});
  Stream stream(detect_cpu().cpus);
  const double best = best_seconds(state, batch, stream);
  const double gb = static_cast<double>(batch.cache_bytes()) / best * 1e-9;
  state.counters["GB/s"] = gb;
  state.counters["share of read bandwidth"] = gb / roofs(stream).read_gb_per_s;
}

// Arguments: rows of one sequence, cached tokens before them, head size. 16 query heads on 8 kv heads.
void prefill(benchmark::State& state, DType dtype) {
  const HeadShape shape{.heads = 16, .kv_heads = 8, .head_dim = static_cast<int32_t>(state.range(2))};
  const AttentionBatch values =
      AttentionBatch::make(shape, {{.rows = state.range(0), .cached = state.range(1)}});
  AttentionCase batch(values, {.layout = layout_of("apart/token"), .dtype = dtype});
  Stream stream(detect_cpu().cpus);
  const double best = best_seconds(state, batch, stream);
  const auto rows = static_cast<double>(state.range(0)), cached = static_cast<double>(state.range(1));
  const double pairs = rows * cached + rows * (rows + 1) / 2;  // of query and visible token
  const double gflop = 4 * pairs * 16 * shape.head_dim / best * 1e-9;
  state.counters["GFLOP/s"] = gflop;
  state.counters["share of f32 arithmetic"] = gflop / roofs(stream).f32_gflop_per_s;
}

#define LOCKSTEP_DECODE_SIZES                    \
  ArgsProduct({{64}, {1024, 4096}, {16}, {128}}) \
      ->Args({64, 1024, 16, 64})                 \
      ->Args({64, 1024, 8, 128})                 \
      ->Args({64, 1024, 64, 128})                \
      ->Args({1, 4096, 16, 128})                 \
      ->Unit(benchmark::kMillisecond)
BENCHMARK_CAPTURE(decode, attention_apart_token, "apart/token")->LOCKSTEP_DECODE_SIZES;
BENCHMARK_CAPTURE(decode, attention_apart_head, "apart/head")->LOCKSTEP_DECODE_SIZES;
BENCHMARK_CAPTURE(decode, attention_interleaved_shuffled8, "interleaved/shuffled8")->LOCKSTEP_DECODE_SIZES;
BENCHMARK_CAPTURE(prefill, attention_bf16, DType::kBF16)
    ->ArgsProduct({{512, 2048}, {0}, {64, 128, 256}})
    ->Args({512, 2048, 128})
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(prefill, attention_f32, DType::kF32)->Args({512, 0, 128})->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace lockstep
