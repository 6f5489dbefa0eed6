// What CUDA says, as a Status.
#pragma once

#include <cuda_runtime_api.h>

#include "base/status.h"

namespace lockstep {

// `what` is what was asked: "copy of 512 bytes to the device".
inline Status cuda_status(cudaError_t code, std::string_view what, Code kind = Code::kInternal) {
  if (code == cudaSuccess) return {};
  cudaGetLastError();  // said once: the next launch has no part in it
  return error(kind, "cuda: ", what, ": ", cudaGetErrorString(code), " (", cudaGetErrorName(code),
               "); expected success");
}

}  // namespace lockstep
