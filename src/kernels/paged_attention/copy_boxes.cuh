// Boxes of a plane of the cache, tokens of one page and 64 elements of their heads, that the device copies to
// shared memory on its own, swizzled as matrix units read them; zeros past the end of a head.
#pragma once

#include <cuda.h>
#include <cudaTypedefs.h>

#include "device/launch.cuh"
#include "kernels/common/block_barrier.cuh"
#include "kernels/kv_cache/kv_view.h"
#include "kernels/paged_attention/matrix_units.cuh"

namespace lockstep::cuda {

// Where the boxes of a plane lie; part of the arguments of a kernel.
struct PlaneBoxes {
  CUtensorMap map;
  int32_t heads_first = 0;  // heads lie closer together than tokens
};

// Tokens of a box, where tiles of `tile` tokens can be copied so; 0: they cannot.
inline int32_t box_tokens(const KvView& cache, int32_t tile) {
  const bool fits = cache.page_tokens % kSwizzledLines == 0 &&
                    (tile % cache.page_tokens == 0 || cache.page_tokens % tile == 0);
  return !fits ? 0 : cache.page_tokens < tile ? cache.page_tokens : tile;
}

// Boxes of `tokens` tokens. Strides are multiples of 16 bytes (has_vectors()). What the driver refuses is
// kept by the queue.
inline PlaneBoxes boxes_of(const KvView& cache, const KvPlane& plane, int32_t tokens, CudaQueue& queue) {
  PlaneBoxes boxes{};
  void* encode = nullptr;
  cudaDriverEntryPointQueryResult found{};
  constexpr unsigned kVersion = 12000;
  queue.note(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &encode, kVersion, cudaEnableDefault,
                                              &found),
             "the driver's entry for boxes of tensors");
  if (encode == nullptr) return boxes;
  boxes.heads_first = plane.head_stride < plane.token_stride ? 1 : 0;
  const auto bytes = [](int64_t elements) { return static_cast<cuuint64_t>(elements) * 2; };
  const auto count = [](int64_t n) { return static_cast<cuuint64_t>(n); };
  cuuint64_t sizes[4] = {count(cache.head_dim), count(cache.page_tokens), count(cache.heads),
                         count(cache.num_pages)};
  cuuint64_t strides[3] = {bytes(plane.token_stride), bytes(plane.head_stride), bytes(plane.page_stride)};
  cuuint32_t box[4] = {kLineElements, static_cast<cuuint32_t>(tokens), 1, 1};
  if (boxes.heads_first != 0) {
    std::swap(sizes[1], sizes[2]);
    std::swap(strides[0], strides[1]);
    std::swap(box[1], box[2]);
  }
  const cuuint32_t steps[4] = {1, 1, 1, 1};
  const CUresult result = reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(encode)(
      &boxes.map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, plane.data, sizes, strides, box, steps,
      CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  queue.note(result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue, "boxes of a plane of the cache");
  return boxes;
}

// Copies the box from `element` and `token` of a page on to `to`, which is aligned to eight lines; `came` is
// told its bytes. By one thread.
__device__ inline void copy_box(const PlaneBoxes& from, int page, int head, int token, int element, void* to,
                                const BlockBarrier& came) {
  const int second = from.heads_first != 0 ? head : token, third = from.heads_first != 0 ? token : head;
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, "
      "%5}], [%6];" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(to))),
      "l"(&from.map), "r"(element), "r"(second), "r"(third), "r"(page), "r"(came.address())
      : "memory");
}

}  // namespace lockstep::cuda
