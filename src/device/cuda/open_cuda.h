// NVIDIA GPUs as devices.
#pragma once

#include "device/device.h"

namespace lockstep {

// Errors: kNotFound for a GPU that is not there or is older than this build's kernels.
Result<DevicePtr> open_cuda(int32_t index);

}  // namespace lockstep
