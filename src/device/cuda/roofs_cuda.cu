#include <cuda_bf16.h>

#include <algorithm>

#include "base/clock.h"
#include "device/cuda/cuda_roofs.h"
#include "device/cuda/cuda_status.cuh"
#include "device/launch.cuh"

namespace lockstep {
namespace {

constexpr int64_t kBytes = int64_t{1} << 30;  // twenty times what the second cache holds
constexpr int64_t kWidth = 8192;              // of the matrices
constexpr int kThreads = 256;
constexpr int kBlocksPerProcessor = 8;  // 2048 threads: all that one holds
constexpr int kChains = 16;             // independent multiply-adds of a thread: more than their latency
constexpr int kRounds = 4096;

struct CudaRoofArgs {
  const uint4* source = nullptr;
  uint4* target = nullptr;
  int64_t count = 0;  // of 16 bytes each
  int rounds = 0;
};

// The sums end up somewhere only if they are what they never are.
__global__ void read_all(CudaRoofArgs args) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  uint4 sum = make_uint4(0, 0, 0, 0);
#pragma unroll 8
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < args.count; i += step) {
    const uint4 x = args.source[i];
    sum.x ^= x.x;
    sum.y ^= x.y;
    sum.z ^= x.z;
    sum.w ^= x.w;
  }
  if (args.rounds == 1) args.target[threadIdx.x] = sum;
}

__global__ void copy_all(CudaRoofArgs args) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
#pragma unroll 8
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < args.count; i += step)
    args.target[i] = args.source[i];
}

__global__ void multiply_add(CudaRoofArgs args) {
  float sums[kChains];
  const float x = 1.0f + static_cast<float>(threadIdx.x) * 1e-6f;
  for (int i = 0; i < kChains; ++i) sums[i] = static_cast<float>(i);
  for (int round = 0; round < args.rounds; ++round) {
#pragma unroll
    for (int i = 0; i < kChains; ++i) sums[i] = __fmaf_rn(sums[i], x, x);
  }
  float total = 0;
  for (int i = 0; i < kChains; ++i) total += sums[i];
  if (total == 0) args.target[threadIdx.x] = make_uint4(1, 0, 0, 0);
}

// Bits of a hash: as bf16, of either sign and between 1 and 2 in size. Zeros would multiply faster.
__global__ void fill_random(CudaRoofArgs args) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < args.count; i += step) {
    uint32_t word[4];
    for (int j = 0; j < 4; ++j) {
      uint32_t h = static_cast<uint32_t>(i) * 4u + static_cast<uint32_t>(j);
      h = (h ^ h >> 16) * 0x7feb352du;
      h = (h ^ h >> 15) * 0x846ca68bu;
      word[j] = ((h ^ h >> 16) & 0x807f807fu) | 0x3f803f80u;
    }
    args.target[i] = make_uint4(word[0], word[1], word[2], word[3]);
  }
}

// One GiB of a device, given back at the end.
class Memory {
 public:
  static Result<Memory> take(Device& device) {
    Result<void*> bytes = device.allocate(kBytes);
    if (!bytes.ok()) return bytes.status();
    return Memory(device, *bytes);
  }
  ~Memory() {
    if (bytes_ != nullptr) device_.release(bytes_);
  }
  Memory(Memory&& other) noexcept : device_(other.device_), bytes_(std::exchange(other.bytes_, nullptr)) {}
  Memory& operator=(Memory&&) = delete;
  uint4* at(int64_t offset) const { return reinterpret_cast<uint4*>(static_cast<char*>(bytes_) + offset); }

 private:
  Memory(Device& device, void* bytes) : device_(device), bytes_(bytes) {}
  Device& device_;
  void* bytes_;
};

// Seconds of the fastest run of `work` among those that begin within the budget, at least 4.
template <typename Work>
Result<double> best_pass(CudaQueue& queue, double budget, const Work& work) {
  const int64_t begin = now_ns();
  double best = 0;
  for (int pass = 0; pass < 4 || seconds_since(begin) < budget; ++pass) {
    queue.forget_ticks();
    const int64_t from = LS_TRY(queue.tick());
    work();
    const int64_t to = LS_TRY(queue.tick());
    const double seconds = LS_TRY(queue.us_between(from, to)) * 1e-6;
    LS_TRY(queue.status());
    best = best == 0 ? seconds : std::min(best, seconds);
  }
  return best;
}

}  // namespace

Result<Roofs> measure_cuda_roofs(Device& device, double seconds) {
  const Memory memory = LS_TRY(Memory::take(device));
  const std::unique_ptr<DeviceQueue> owned = LS_TRY(device.make_queue());
  auto& queue = static_cast<CudaQueue&>(*owned);
  int current = 0, processors = 0;
  LS_TRY(cuda_status(cudaGetDevice(&current), "the current device"));
  LS_TRY(cuda_status(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, current),
                     "the number of multiprocessors"));
  const cuda::Grid grid{.blocks = dim3(static_cast<unsigned>(processors * kBlocksPerProcessor)),
                        .threads = dim3(kThreads)};
  const Worker worker{0, 1, queue.native()};
  const CudaRoofArgs whole{.source = memory.at(0), .target = memory.at(0), .count = kBytes / 16};
  const CudaRoofArgs halves{.source = memory.at(0), .target = memory.at(kBytes / 2), .count = kBytes / 32};
  const CudaRoofArgs rounds{.target = memory.at(0), .rounds = kRounds};
  const ProductArgs product{.x = memory.at(0),
                            .weight = memory.at(kWidth * kWidth * 2),
                            .out = reinterpret_cast<float*>(memory.at(kBytes / 2)),
                            .rows = kWidth,
                            .outputs = kWidth,
                            .inputs = kWidth,
                            .out_stride = kWidth};
  cuda::launch_grid(worker, fill_random, grid, whole);

  const double read =
      LS_TRY(best_pass(queue, seconds, [&] { cuda::launch_grid(worker, read_all, grid, whole); }));
  const double copy =
      LS_TRY(best_pass(queue, seconds, [&] { cuda::launch_grid(worker, copy_all, grid, halves); }));
  const double multiplied =
      LS_TRY(best_pass(queue, seconds, [&] { cuda::launch_grid(worker, multiply_add, grid, rounds); }));
  const double matrices = LS_TRY(best_pass(queue, seconds, [&] { queue.multiply(product); }));
  const double threads = static_cast<double>(processors) * kBlocksPerProcessor * kThreads;
  return Roofs{.read_gb_per_s = static_cast<double>(kBytes) * 1e-9 / read,
               .copy_gb_per_s = static_cast<double>(kBytes) * 1e-9 / copy,
               .f32_gflop_per_s = 2e-9 * threads * kChains * kRounds / multiplied,
               .bf16_gflop_per_s = 2e-9 * static_cast<double>(kWidth * kWidth * kWidth) / matrices,
               .bf16_by = "a product of 8192^3"};
}

}  // namespace lockstep
