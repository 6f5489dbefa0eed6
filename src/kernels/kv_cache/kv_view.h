// Where the keys and values of one layer lie: real strides, 64 bit, so that every layout is data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "tensor/dtype.h"
#include "tensor/op_spec.h"

namespace lockstep {

// One plane (keys or values) of a layer's cache. Element (page, head, token, d) lies at
//   page * page_stride + head * head_stride + token * token_stride + (d / chunk) * chunk_stride + d % chunk
// elements from data. Unshuffled layouts have chunk = head size. Trivially copyable.
struct KvPlane {
  void* data = nullptr;
  int64_t page_stride = 0;
  int64_t head_stride = 0;
  int64_t token_stride = 0;
  int64_t chunk_stride = 0;
  int64_t chunk = 0;

  int64_t offset(int64_t page, int64_t head, int64_t token, int64_t d) const {
    return page * page_stride + head * head_stride + token * token_stride + d / chunk * chunk_stride +
           d % chunk;
  }
};

struct KvView {
  KvPlane k;
  KvPlane v;
  DType dtype = DType::kF32;  // f32, f16, bf16; converted to and from f32, round to nearest even
  int32_t num_pages = 0;      // page 0 is the reserved pad page
  int32_t page_tokens = 0;    // B
  int32_t heads = 0;          // K
  int32_t head_dim = 0;       // D
};

// No padding: launches are compared byte for byte.
static_assert(std::has_unique_object_representations_v<KvView>);

template <>
struct ArgKindOf<KvView> {
  static constexpr ArgKind value = ArgKind::kKvCache;
  static constexpr int32_t second_address = offsetof(KvView, v);
};

}  // namespace lockstep
