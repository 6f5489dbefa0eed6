// Boxes of a bf16 tensor in the device's memory that it copies to shared memory on its own, their innermost
// dimension a line of 64 elements, swizzled as matrix units read them; zeros outside of the tensor.
#pragma once

#include <cuda.h>
#include <cudaTypedefs.h>

#include "device/launch.cuh"
#include "kernels/common/block_barrier.cuh"
#include "kernels/common/matrix_units.cuh"

namespace lockstep::cuda {

// Where they lie; part of the arguments of a kernel.
struct TensorBoxes {
  CUtensorMap map;
};

// The innermost dimension comes first; its elements are neighbours.
template <int R>
struct BoxedTensor {
  const void* data;    // aligned to 16 bytes
  int64_t sizes[R];    // elements
  int64_t strides[R];  // likewise; multiples of 8 but for the first, which is 1
  int32_t box[R];      // elements; the first is kLineElements or less
};

// The driver's function that describes boxes; null where it has none.
inline PFN_cuTensorMapEncodeTiled_v12000 box_encoder() {
  static const auto kEncoder = [] {
    constexpr unsigned kVersion = 12000;
    void* encoder = nullptr;
    cudaDriverEntryPointQueryResult found{};
    const cudaError_t code = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &encoder, kVersion,
                                                              cudaEnableDefault, &found);
    return code == cudaSuccess ? reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(encoder) : nullptr;
  }();
  return kEncoder;
}

// What the driver refuses is kept by the queue.
template <int R>
TensorBoxes boxes_of(const BoxedTensor<R>& tensor, CudaQueue& queue) {
  TensorBoxes boxes{};
  cuuint64_t sizes[R], bytes[R];
  cuuint32_t box[R], steps[R];
  for (int i = 0; i < R; ++i) {
    sizes[i] = static_cast<cuuint64_t>(tensor.sizes[i]);
    bytes[i] = static_cast<cuuint64_t>(tensor.strides[i]) * 2;
    box[i] = static_cast<cuuint32_t>(tensor.box[i]);
    steps[i] = 1;
  }
  const auto encode = box_encoder();
  const bool done =
      encode != nullptr &&
      encode(&boxes.map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, R, const_cast<void*>(tensor.data), sizes,
             bytes + 1, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
  queue.note(done ? cudaSuccess : cudaErrorInvalidValue, "the description of a tensor's boxes");
  return boxes;
}

// Copies the box whose first element is `at` to `to`, which is aligned to eight lines; `came` is told its
// bytes. By one thread.
__device__ inline void copy_box(const TensorBoxes& from, const int (&at)[2], void* to,
                                const BlockBarrier& came) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], "
      "[%4];" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(to))),
      "l"(&from.map), "r"(at[0]), "r"(at[1]), "r"(came.address())
      : "memory");
}
__device__ inline void copy_box(const TensorBoxes& from, const int (&at)[3], void* to,
                                const BlockBarrier& came) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], "
      "[%5];" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(to))),
      "l"(&from.map), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(came.address())
      : "memory");
}
__device__ inline void copy_box(const TensorBoxes& from, const int (&at)[4], void* to,
                                const BlockBarrier& came) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, "
      "%5}], [%6];" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(to))),
      "l"(&from.map), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(came.address())
      : "memory");
}
}  // namespace lockstep::cuda
