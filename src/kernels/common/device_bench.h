// Times kernels on the device, for *_cuda_bench.cc: as launches of one captured graph that walk over more
// memory than its caches hold, on random data. The median of several replays counts, gaps between launches
// included: so a step runs them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "device/arena.h"
#include "device/graph.h"
#include "device/roofs.h"
#include "kernels/common/launcher.h"
#include "kernels/table.h"

namespace lockstep {

// One measurement.
struct BenchRow {
  std::string name;   // what peers go by too: "decode 32 x 4096"
  double bytes = 0;   // that one call must move, each once
  double flop = 0;    // that one call must do, a multiply-add being two
  std::string limit;  // what limits it, in words
  double us = 0;      // of one call
};

class DeviceBench {
 public:
  static constexpr int64_t kMemory = int64_t{24} << 30;
  static constexpr int64_t kCold = int64_t{256} << 20;  // several times the caches

  // Opens the device, takes its memory and measures its roofs. Errors: as open_device().
  static Result<DeviceBench> open(std::string filter);

  Launcher on() { return {kernel_table(Isa::kSm90), *stream_}; }
  Arena& arena() { return *arena_; }
  const Roofs& roofs() const { return roofs_; }
  const std::vector<BenchRow>& rows() const { return rows_; }
  bool wants(const std::string& name) const { return name.find(filter_) != std::string::npos; }

  // A dense tensor of f32 or bf16 with uniform values in [-1, 1); long ones repeat after 4 Mi elements.
  Result<TensorView> random(DType dtype, const Shape& shape);
  // A dense tensor with the values of a host container.
  template <typename Container>
  Result<TensorView> upload(Container values, const Shape& shape) {
    const TensorView from = view(values, shape);
    const TensorView to = LS_TRY(arena_->allocate("bench", from.dtype, shape));
    LS_TRY(arena_->fill(to, from.data));
    return to;
  }
  // A count on the device, as kernels read it.
  template <typename Count>
  Result<const Count*> count(int32_t value) {
    const TensorView there = LS_TRY(upload(std::vector<int32_t>{value}, {1}));
    return static_cast<const Count*>(there.data);
  }
  // How many copies of operands of so many bytes no cache holds.
  static int64_t copies(int64_t bytes) { return kCold / bytes + 1; }

  // Times `calls` launches, call(i) each, and keeps the row.
  template <typename Call>
  Status time(BenchRow row, int64_t calls, Call&& call) {
    Graph graph;
    for (int64_t i = 0; i < 2; ++i) LS_TRY(call(i % calls));  // the library chooses its algorithms
    stream_->synchronize();
    LS_TRY(stream_->begin_capture(graph));
    for (int64_t i = 0; i < calls; ++i) {
      const Status status = call(i);
      if (!status.ok()) {
        stream_->end_capture();
        return status;
      }
    }
    stream_->end_capture();
    LS_TRY(stream_->instantiate(graph));
    row.us = LS_TRY(median_us(graph)) / static_cast<double>(calls);
    rows_.push_back(std::move(row));
    return {};
  }

  // All rows: as a table, or one JSON object.
  std::string text() const;
  std::string json() const;

 private:
  DeviceBench(DevicePtr device, std::string filter)
      : device_(std::move(device)), filter_(std::move(filter)) {}
  Result<double> median_us(const Graph& graph);
  double share(const BenchRow& row) const;  // of the time that the nearer roof allows

  DevicePtr device_;
  std::string filter_;
  std::unique_ptr<Stream> stream_;
  std::optional<Arena> arena_;
  Roofs roofs_;
  std::vector<BenchRow> rows_;
};

// The benches, one per op. Each leaves the arena as it found it.
Status bench_linear(DeviceBench& bench);
Status bench_paged_attention(DeviceBench& bench);
Status bench_moe(DeviceBench& bench);
Status bench_recurrences(DeviceBench& bench);
Status bench_sparse_attention(DeviceBench& bench);

}  // namespace lockstep
