// Which devices this build knows, by name.
#pragma once

#include <string_view>

#include "device/device.h"

namespace lockstep {

// "cpu": null. "cuda", "cuda:1": an NVIDIA GPU, where the build has CUDA.
// Errors: kInvalidArgument for other names; kUnimplemented where this build has no such device; kNotFound
// where this machine has none.
Result<DevicePtr> open_device(std::string_view name);

}  // namespace lockstep
