// NcclLink: the collectives of a group of CUDA devices through NCCL. Only where its header was found;
// everybody else goes through comm/registry.h.
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "device/device.h"

namespace lockstep {

// The library is opened when the first link is made ("libnccl.so.2"): programs start without it. NCCL moves
// bytes and adds up nothing. NVLink multicast stays off unless NCCL_NVLS_ENABLE says otherwise: on a host
// that others share it can put their GPUs out of service.
class NcclLink {
 public:
  // All members call it together, each with a device of its own. Errors: kNotFound without the library;
  // kDevice with its reason; those of the group.
  static Result<std::unique_ptr<DeviceLink>> create(Communicator& group, Device& device);
};

}  // namespace lockstep
