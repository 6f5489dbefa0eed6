#include "device/roofs.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/clock.h"
#include "device/arena.h"
#include "device/roofs_kernels.h"

namespace lockstep {
namespace {

constexpr int64_t kBytes = int64_t{1} << 30;
constexpr int64_t kPassBytes = int64_t{64} << 20;  // about a millisecond: short enough to find a quiet moment
constexpr int64_t kSums = 24;  // independent multiply-adds: more than latency times ports of any x86 core

const RoofKernels& roof_kernels(Isa isa) {
  switch (isa) {
    case Isa::kReference:
    case Isa::kSm90: return kReferenceRoofs;  // of the CPU beside the device
    case Isa::kAvx2: return kAvx2Roofs;
    case Isa::kAvx512:
    case Isa::kAvx512Bf16: return kAvx512Roofs;
  }
  return kReferenceRoofs;
}

void fill(const RoofArgs& args, Worker worker) {
  const Worker::Range mine = worker.share(args.target.dim(0), 4096);
  std::memset(static_cast<char*>(args.target.data) + mine.begin, 1,
              static_cast<size_t>(mine.end - mine.begin));
}

// The C library's copy: it knows which stores this processor likes best.
void copy(const RoofArgs& args, Worker worker) {
  const Worker::Range mine = worker.share(args.source.dim(0), 4096);
  std::memcpy(static_cast<char*>(args.target.data) + mine.begin,
              static_cast<const char*>(args.source.data) + mine.begin,
              static_cast<size_t>(mine.end - mine.begin));
}

// Seconds of the fastest pass among those that begin within the budget. Successive passes walk through
// memory, so that none finds what an earlier one left in a cache.
double best_pass(Stream& stream, Kernel<RoofArgs> kernel, const RoofArgs& whole, double budget) {
  RoofArgs args = whole;
  double best = 0;
  const int64_t begin = now_ns();
  int64_t at = 0;
  do {
    args.source = whole.source.rows(at, kPassBytes);
    args.target = whole.target.rows(at, kPassBytes);
    const int64_t start = now_ns();
    launch(stream, kRoofSpec, "measure", kernel, args);
    const double seconds = seconds_since(start);
    best = best == 0 ? seconds : std::min(best, seconds);
    at = (at + kPassBytes) % whole.source.dim(0);
  } while (seconds_since(begin) < budget || at != 0);
  return best;
}

}  // namespace

Result<Roofs> measure_roofs(Stream& stream, Isa isa, double seconds) {
  if (stream.device() != nullptr) return stream.device()->measure_roofs(seconds);
  Arena arena = LS_TRY(Arena::create("roofs", kBytes));
  const TensorView memory = LS_TRY(arena.allocate("roof", DType::kU8, {kBytes}));
  std::vector<float> sink(static_cast<size_t>(stream.threads()) * 16);
  RoofArgs args{.source = memory,
                .target = memory,
                .sink = view(sink, {static_cast<int64_t>(sink.size())}),
                .rounds = 100000};
  launch(stream, kRoofSpec, "fill", fill, args);

  const RoofKernels& kernels = roof_kernels(isa);
  const double flops = static_cast<double>(kSums * args.rounds * stream.threads()) * 1e-9;
  Roofs roofs;
  roofs.read_gb_per_s =
      static_cast<double>(kPassBytes) * 1e-9 / best_pass(stream, kernels.read, args, seconds);
  args.source = memory.rows(0, kBytes / 2);
  args.target = memory.rows(kBytes / 2, kBytes / 2);
  roofs.copy_gb_per_s = 2 * static_cast<double>(kPassBytes) * 1e-9 / best_pass(stream, copy, args, seconds);
  roofs.f32_gflop_per_s =
      flops * static_cast<double>(kernels.flop) / best_pass(stream, kernels.multiply, args, seconds);
  if (isa == Isa::kAvx512Bf16) {
    roofs.bf16_gflop_per_s = flops * 64 / best_pass(stream, kBf16RoofKernel, args, seconds);
    roofs.bf16_by = "AVX512-BF16 dot products";
  } else {
    roofs.bf16_gflop_per_s = roofs.f32_gflop_per_s;
    roofs.bf16_by = "f32 multiply-adds";
  }
  return roofs;
}

}  // namespace lockstep
