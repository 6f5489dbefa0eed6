#include "conformance/host_kernels.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace lockstep::conformance {
namespace {

constexpr int64_t kAlignment = 256;  // copies lie as their originals do, modulo this

// A stretch of device memory, and where its copy lies.
struct Piece {
  ByteRange there;
  bool written = false;
  char* here = nullptr;
};

// Operands that overlap are one piece, so that they do so in the copy too.
std::vector<Piece> pieces_of(const LaunchRecord& launch) {
  std::vector<Piece> all;
  for_each_operand(launch, [&](const Operand& operand) {
    for (const ByteRange& range : operand.ranges()) {
      if (!range.empty()) all.push_back({.there = range, .written = operand.writes()});
    }
  });
  std::sort(all.begin(), all.end(),
            [](const Piece& a, const Piece& b) { return a.there.begin < b.there.begin; });
  std::vector<Piece> joined;
  for (const Piece& piece : all) {
    if (joined.empty() || piece.there.begin >= joined.back().there.end) {
      joined.push_back(piece);
      continue;
    }
    joined.back().there.end = std::max(joined.back().there.end, piece.there.end);
    joined.back().written = joined.back().written || piece.written;
  }
  return joined;
}

void redirect(const std::vector<Piece>& pieces, unsigned char* word) {
  uintptr_t address = 0;
  std::memcpy(&address, word, sizeof(address));
  for (const Piece& piece : pieces) {
    if (address < piece.there.begin || address >= piece.there.end) continue;
    char* copy = piece.here + (address - piece.there.begin);
    std::memcpy(word, &copy, sizeof(copy));
    return;
  }
}

}  // namespace

HostKernels::HostKernels(DevicePtr device, void* memory, int64_t bytes)
    : device_(std::move(device)), memory_(static_cast<char*>(memory)), bytes_(bytes) {}

HostKernels::~HostKernels() { device_->release_pinned(memory_); }

Result<std::unique_ptr<HostKernels>> HostKernels::create(DevicePtr device, int64_t bytes) {
  if (device == nullptr) return std::unique_ptr<HostKernels>();
  void* memory = LS_TRY(device->allocate_pinned(bytes));
  return std::unique_ptr<HostKernels>(new HostKernels(std::move(device), memory, bytes));
}

void HostKernels::enqueue(const LaunchRecord& launch, Thunk thunk, AnyKernel kernel, void* queue) {
  std::vector<Piece> pieces = pieces_of(launch);
  std::vector<HostCopy> in, out;
  int64_t offset = 0;
  for (Piece& piece : pieces) {
    offset = (offset + kAlignment - 1) / kAlignment * kAlignment +
             static_cast<int64_t>(piece.there.begin % kAlignment);
    piece.here = memory_ + offset;
    const auto bytes = static_cast<int64_t>(piece.there.end - piece.there.begin);
    in.push_back({reinterpret_cast<void*>(piece.there.begin), piece.here, bytes});
    if (piece.written) out.push_back(in.back());
    offset += bytes;
    LS_CHECK(offset <= bytes_, launch.site.op(), " touches more than ", bytes_, " bytes");
  }
  const auto* bytes = static_cast<const unsigned char*>(launch.args);
  Work& work = works_.emplace_back();
  work = {.args = {bytes, bytes + launch.args_bytes}, .thunk = thunk, .kernel = kernel};
  for (const OpArg& arg : launch.site.spec->args) {
    if (!operand_of(launch, arg)) continue;
    redirect(pieces, work.args.data() + arg.offset);
    if (arg.second_address > 0) redirect(pieces, work.args.data() + arg.offset + arg.second_address);
  }
  const auto run = [](void* self) {
    const auto& own = *static_cast<const Work*>(self);
    own.thunk(own.args.data(), own.kernel);
  };
  enqueue_host_call(queue, {.in = in, .run = run, .self = &work, .out = out});
}

}  // namespace lockstep::conformance
