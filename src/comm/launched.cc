#include "comm/launched.h"

#include <cstring>

#include "comm/registry.h"

namespace lockstep {

Status Launched::all_gather(std::span<const std::byte> mine, std::span<std::byte> all, DType dtype) const {
  if (!on_device()) return group_.all_gather(mine, all, dtype, at_);
  return group_.enqueue({.op = Collective::kAllGather, .dtype = dtype, .at = at_}, mine, all, worker_);
}

Status Launched::all_to_all(std::span<const std::byte> send, std::span<std::byte> receive,
                            DType dtype) const {
  const auto block = static_cast<int64_t>(send.size()) / group_.size();
  if (!on_device()) return group_.all_to_all(send, receive, block, dtype, at_);
  return group_.enqueue({.op = Collective::kAllToAll, .dtype = dtype, .at = at_}, send, receive, worker_);
}

Status Launched::broadcast(std::span<std::byte> bytes, int32_t root, DType dtype) const {
  if (!on_device()) return group_.broadcast(bytes, root, dtype, at_);
  return group_.enqueue({.op = Collective::kBroadcast, .dtype = dtype, .at = at_, .root = root}, bytes, bytes,
                        worker_);
}

void Launched::spoil(std::span<std::byte> bytes) const {
  if (!on_device() && !bytes.empty()) std::memset(bytes.data(), 0xFF, bytes.size());
}

const RankKernels& Launched::kernels() const {
  return on_device() ? device_rank_kernels() : host_rank_kernels();
}

}  // namespace lockstep
