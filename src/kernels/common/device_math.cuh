// What every CUDA kernel needs: elements of any float type as f32, live counts, and sums over warps and
// blocks whose order depends on nothing but the number of threads.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "base/units.h"
#include "device/launch.cuh"
#include "tensor/tensor.h"

namespace lockstep::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xFFFFFFFFu;

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__half x) { return __half2float(x); }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

// Rounded to nearest even; a NaN keeps its sign and is the one of the CPU.
template <typename T>
__device__ inline T from_float(float x);
template <>
__device__ inline float from_float<float>(float x) {
  return x;
}
template <>
__device__ inline __half from_float<__half>(float x) {
  const auto sign = static_cast<unsigned short>(__float_as_uint(x) >> 16 & 0x8000u);
  return isnan(x) ? __ushort_as_half(sign | 0x7E00u) : __float2half_rn(x);
}
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  const auto bits = static_cast<unsigned short>(__float_as_uint(x) >> 16);
  return isnan(x) ? __ushort_as_bfloat16(bits | 0x0040u) : __float2bfloat16_rn(x);
}

// Calls body.template operator()<T>() for the CUDA type of a float element. Front doors let no other through.
template <typename Body>
void with_element(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::kF16: body.template operator()<__half>(); return;
    case DType::kBF16: body.template operator()<__nv_bfloat16>(); return;
    default: body.template operator()<float>(); return;
  }
}

__device__ inline int64_t dim(const TensorView& view, int i) {
  return view.shape.dims[static_cast<size_t>(i)];
}
template <typename T>
__device__ inline T* row(const TensorView& view, int64_t i) {
  return static_cast<T*>(view.data) + i * view.strides[0];
}
template <typename T>
__device__ inline T* at(const TensorView& view, int64_t i, int64_t j) {
  return static_cast<T*>(view.data) + i * view.strides[0] + j * view.strides[1];
}

// *count held to [0, room].
template <typename Count>
__device__ inline int64_t live(const Count* count, int64_t room) {
  const int64_t n = count->get();
  return n < 0 ? 0 : n < room ? n : room;
}

template <typename T>
__device__ inline T warp_sum(T x) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(kAllLanes, x, offset);
  return x;
}

// The same sum in every thread of a block of `kThreads`. All of them call it.
template <int kThreads, typename T>
__device__ inline T block_sum(T x) {
  __shared__ T parts[kThreads / kWarp];
  x = warp_sum(x);
  __syncthreads();  // whoever still reads the sum before
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = x;
  __syncthreads();
  T sum = parts[0];
  for (int i = 1; i < kThreads / kWarp; ++i) sum += parts[i];
  return sum;
}

// The smallest `x` of a block, in every thread.
template <int kThreads, typename T>
__device__ inline T block_min(T x) {
  __shared__ T parts[kThreads / kWarp];
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, x, offset);
    x = other < x ? other : x;
  }
  __syncthreads();
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = x;
  __syncthreads();
  T least = parts[0];
  for (int i = 1; i < kThreads / kWarp; ++i) least = parts[i] < least ? parts[i] : least;
  return least;
}

inline dim3 blocks_of(int64_t x, int64_t y = 1, int64_t z = 1) {
  return dim3(static_cast<unsigned>(x), static_cast<unsigned>(y), static_cast<unsigned>(z));
}

}  // namespace lockstep::cuda
