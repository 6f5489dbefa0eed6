// Which live sequence a row belongs to, on the device.
#pragma once

#include "kernels/common/device_math.cuh"

namespace lockstep::cuda {

// The first of `seqs` sequences that ends behind row t, if t is one of its rows; else -1.
__device__ inline int64_t owner_of(const TensorView& query_start_loc, int64_t seqs, int64_t t) {
  const auto* starts = static_cast<const int32_t*>(query_start_loc.data);
  int64_t low = 0, high = seqs;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (starts[middle + 1] > t) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low < seqs && starts[low] <= t ? low : -1;
}

}  // namespace lockstep::cuda
