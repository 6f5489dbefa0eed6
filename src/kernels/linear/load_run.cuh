// Runs of elements that a lane takes side by side.
#pragma once

#include "kernels/common/device_math.cuh"

namespace lockstep::cuda {

inline constexpr int kRun = 8;

// `kRun` elements from k on as f32, zeros past the end. Aligned ones come as whole vectors.
template <bool kAligned, typename T>
__device__ inline void load_run(const T* from, int64_t k, int64_t size, float* to) {
  if constexpr (kAligned) {
    if (k >= size) {
      for (int i = 0; i < kRun; ++i) to[i] = 0.0f;
      return;
    }
    constexpr int kVectors = kRun * static_cast<int>(sizeof(T)) / 16;
    uint4 words[kVectors];
    for (int i = 0; i < kVectors; ++i) words[i] = reinterpret_cast<const uint4*>(from + k)[i];
    const T* values = reinterpret_cast<const T*>(words);
    for (int i = 0; i < kRun; ++i) to[i] = to_float(values[i]);
  } else {
    for (int i = 0; i < kRun; ++i) to[i] = k + i < size ? to_float(from[k + i]) : 0.0f;
  }
}

}  // namespace lockstep::cuda
