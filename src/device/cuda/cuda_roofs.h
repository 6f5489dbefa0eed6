// What an NVIDIA GPU can do at most, measured.
#pragma once

#include "device/roofs.h"

namespace lockstep {

// Reads and copies 1 GiB, multiplies and adds on registers, and multiplies two matrices of 8192 * 8192 random
// bf16 by the library, each for about `seconds`; the best pass counts. The device is the current one.
// Errors: kResourceExhausted without 1 GiB of memory; kInternal as the device says.
Result<Roofs> measure_cuda_roofs(Device& device, double seconds);

}  // namespace lockstep
