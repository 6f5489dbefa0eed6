// Boxes of a plane of the cache: tokens of one page and 64 elements of their heads.
#pragma once

#include <utility>

#include "kernels/common/tensor_boxes.cuh"
#include "kernels/kv_cache/kv_view.h"

namespace lockstep::cuda {

struct PlaneBoxes {
  TensorBoxes boxes;
  int32_t heads_first = 0;  // heads lie closer together than tokens
};

// Tokens of a box, where tiles of `tile` tokens can be copied so; 0: they cannot.
inline int32_t box_tokens(const KvView& cache, int32_t tile) {
  const bool fits = cache.page_tokens % kSwizzledLines == 0 &&
                    (tile % cache.page_tokens == 0 || cache.page_tokens % tile == 0);
  return !fits ? 0 : cache.page_tokens < tile ? cache.page_tokens : tile;
}

// Boxes of `tokens` tokens of a plane that has_vectors().
inline PlaneBoxes plane_boxes(const KvView& cache, const KvPlane& plane, int32_t tokens, CudaQueue& queue) {
  BoxedTensor<4> tensor{.data = plane.data,
                        .sizes = {cache.head_dim, cache.page_tokens, cache.heads, cache.num_pages},
                        .strides = {1, plane.token_stride, plane.head_stride, plane.page_stride},
                        .box = {kLineElements, tokens, 1, 1}};
  const bool heads_first = plane.head_stride < plane.token_stride;
  if (heads_first) {  // the driver asks for strides that grow
    std::swap(tensor.sizes[1], tensor.sizes[2]);
    std::swap(tensor.strides[1], tensor.strides[2]);
    std::swap(tensor.box[1], tensor.box[2]);
  }
  return {boxes_of(tensor, queue), heads_first ? 1 : 0};
}

// Copies the box from `element` and `token` of a page on, as copy_box() does.
__device__ inline void copy_tokens(const PlaneBoxes& from, int page, int head, int token, int element,
                                   void* to, const BlockBarrier& came) {
  const bool heads_first = from.heads_first != 0;
  copy_box(from.boxes, {element, heads_first ? head : token, heads_first ? token : head, page}, to, came);
}

}  // namespace lockstep::cuda
