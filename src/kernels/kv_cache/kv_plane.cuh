// Where elements of a cache lie, on the device.
#pragma once

#include "kernels/kv_cache/kv_view.h"

namespace lockstep::cuda {

// Of element d behind the beginning of its token's head.
__device__ inline int64_t within_head(const KvPlane& plane, int64_t d) {
  return d / plane.chunk * plane.chunk_stride + d % plane.chunk;
}

// Of a token's head behind the beginning of the plane.
__device__ inline int64_t head_at(const KvPlane& plane, int64_t page, int64_t head, int64_t token) {
  return page * plane.page_stride + head * plane.head_stride + token * plane.token_stride;
}

}  // namespace lockstep::cuda
