// The kernels of the preset cuda beside the roofs of the GPU. Usage: kernels_cuda_bench [--json] [PART OF A
// NAME]
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <random>

#include "base/clock.h"
#include "device/registry.h"
#include "diag/table.h"
#include "kernels/common/device_bench.h"

namespace lockstep {
namespace {

constexpr int kReplays = 11;
constexpr size_t kDistinct = size_t{1} << 22;  // elements

}  // namespace

Result<DeviceBench> DeviceBench::open(std::string filter) {
  DeviceBench bench(LS_TRY(open_device("cuda")), std::move(filter));
  bench.stream_ = std::make_unique<Stream>(bench.device_, LS_TRY(bench.device_->make_queue()));
  bench.roofs_ = LS_TRY(measure_roofs(*bench.stream_, Isa::kSm90, 0.05));
  bench.arena_.emplace(LS_TRY(Arena::create("bench", kMemory, bench.device_)));
  return bench;
}

Result<TensorView> DeviceBench::random(DType dtype, const Shape& shape) {
  const TensorView out = LS_TRY(arena_->allocate("random", dtype, shape));
  std::minstd_rand random(1);
  const auto draw = [&]<typename T>(std::vector<T> values) -> Status {
    for (T& value : values) value = static_cast<T>(static_cast<float>(random() % 65536u) * 0x1p-15f - 1.0f);
    for (int64_t done = 0; done < out.elements(); done += static_cast<int64_t>(kDistinct)) {
      const int64_t count = std::min(static_cast<int64_t>(kDistinct), out.elements() - done);
      LS_TRY(arena_->fill(dense_view(static_cast<T*>(out.data) + done, dtype, {count}), values.data()));
    }
    return {};
  };
  if (dtype == DType::kF32) LS_TRY(draw(std::vector<float>(kDistinct)));
  if (dtype == DType::kBF16) LS_TRY(draw(std::vector<BFloat16>(kDistinct)));
  return out;
}

Result<double> DeviceBench::median_us(const Graph& graph) {
  std::vector<double> seconds;
  for (int i = 0; i < kReplays + 2; ++i) {
    stream_->synchronize();
    const int64_t start = now_ns();
    LS_TRY(stream_->replay(graph));
    stream_->synchronize();
    if (i >= 2) seconds.push_back(seconds_since(start));
  }
  LS_TRY(stream_->check_copies());
  std::nth_element(seconds.begin(), seconds.begin() + kReplays / 2, seconds.end());
  return seconds[kReplays / 2] * 1e6;
}

double DeviceBench::share(const BenchRow& row) const {
  const double memory = row.bytes / roofs_.read_gb_per_s * 1e-3;
  const double arithmetic = row.flop / roofs_.bf16_gflop_per_s * 1e-3;
  return std::max(memory, arithmetic) / row.us;
}

std::string DeviceBench::text() const {
  Table table(
      {{"kernel", Align::kLeft}, {"us"}, {"GB/s"}, {"TFLOP/s"}, {"of roof"}, {"limited by", Align::kLeft}});
  for (const BenchRow& row : rows_) {
    table.row({row.name, fixed(row.us, row.us < 100 ? 1 : 0), fixed(row.bytes / row.us * 1e-3, 0),
               fixed(row.flop / row.us * 1e-6, 1), percent(share(row)), row.limit});
  }
  return concat(device_->description(), ": reads ", fixed(roofs_.read_gb_per_s, 0), " GB/s, copies ",
                fixed(roofs_.copy_gb_per_s, 0), " GB/s, bf16 ", fixed(roofs_.bf16_gflop_per_s * 1e-3, 0),
                " TFLOP/s (", roofs_.bf16_by, ")\n", table.text());
}

std::string DeviceBench::json() const {
  std::string out = concat("{\"device\": \"", device_->description(),
                           "\", \"read_gb_per_s\": ", fixed(roofs_.read_gb_per_s, 1),
                           ", \"copy_gb_per_s\": ", fixed(roofs_.copy_gb_per_s, 1),
                           ", \"bf16_gflop_per_s\": ", fixed(roofs_.bf16_gflop_per_s, 1), ", \"rows\": [");
  for (size_t i = 0; i < rows_.size(); ++i) {
    const BenchRow& row = rows_[i];
    out += concat(i == 0 ? "" : ", ", "{\"name\": \"", row.name, "\", \"us\": ", fixed(row.us, 3),
                  ", \"bytes\": ", fixed(row.bytes, 0), ", \"flop\": ", fixed(row.flop, 0),
                  ", \"of_roof\": ", fixed(share(row), 4), ", \"limit\": \"", row.limit, "\"}");
  }
  return out + "]}\n";
}

}  // namespace lockstep

int main(int argc, char** argv) {
  using namespace lockstep;  // NOLINT
  bool json = false;
  std::string filter;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--json") == 0) {
      json = true;
    } else {
      filter = argv[i];
    }
  }
  Result<DeviceBench> bench = DeviceBench::open(filter);
  if (!bench.ok()) return std::fprintf(stderr, "%s\n", bench.status().message().c_str()), 1;
  for (const auto run :
       {bench_linear, bench_paged_attention, bench_moe, bench_recurrences, bench_sparse_attention}) {
    const Status status = run(*bench);
    if (!status.ok()) return std::fprintf(stderr, "%s\n", status.message().c_str()), 1;
  }
  std::fputs((json ? bench->json() : bench->text()).c_str(), stdout);
  return 0;
}
