// What the launch of a collective works with: on the host it exchanges and computes here and now, on a device
// it enqueues both.
#pragma once

#include "comm/communicator.h"
#include "comm/rank_kernels.h"

namespace lockstep {

class Launched {
 public:
  Launched(Communicator& group, const Worker& worker, const CallSite& at)
      : group_(group), worker_(worker), at_(at) {}

  bool on_device() const { return worker_.queue != nullptr; }

  // As those of Communicator.
  Status all_gather(std::span<const std::byte> mine, std::span<std::byte> all, DType dtype) const;
  Status all_to_all(std::span<const std::byte> send, std::span<std::byte> receive, DType dtype) const;
  Status broadcast(std::span<std::byte> bytes, int32_t root, DType dtype) const;

  // One of RankKernels, where this launch computes.
  template <typename Args>
  void run(Kernel<Args> RankKernels::*kernel, const Args& args) const {
    if (!replayed(worker_)) (kernels().*kernel)(args, worker_);
  }

  // After a failed exchange: NaN in every float type, -1 in every integer. What a device's memory holds then
  // is not known; the step has failed, and none of it is read.
  void spoil(std::span<std::byte> bytes) const;

 private:
  const RankKernels& kernels() const;

  Communicator& group_;
  const Worker& worker_;
  CallSite at_;
};

}  // namespace lockstep
