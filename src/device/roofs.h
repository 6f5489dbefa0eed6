// What this machine can do at most, measured: the roofs that kernels are compared with.
#pragma once

#include <string_view>

#include "base/status.h"
#include "device/cpu_info.h"
#include "device/stream.h"

namespace lockstep {

struct Roofs {
  double read_gb_per_s = 0;     // all threads reading 1 GiB that no cache holds
  double copy_gb_per_s = 0;     // bytes read plus bytes written, 512 MiB to 512 MiB
  double f32_gflop_per_s = 0;   // multiply-adds on registers, 2 operations each
  double bf16_gflop_per_s = 0;  // products of bf16 summed in f32: on registers; a device's, of two matrices
  std::string_view bf16_by;     // how: "AVX512-BF16 dot products", "f32 multiply-adds", "a product of 8192^3"
};

// Measures the stream's device; without one its threads, with the instructions of `isa`, which this
// processor must have. The best of the passes of about a millisecond that fit in `seconds` per roof counts,
// at least 16, on a device 4: other work can only hide a roof. Errors: kResourceExhausted without 1 GiB of
// memory. Cost: about 4 * `seconds` and filling 1 GiB.
Result<Roofs> measure_roofs(Stream& stream, Isa isa, double seconds = 0.3);

}  // namespace lockstep
