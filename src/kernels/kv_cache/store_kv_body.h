// store_kv over a vector type: the body of the AVX2 and AVX-512 kernels.
#pragma once

#include "kernels/common/simd_rows.h"
#include "kernels/kv_cache/kv_cache_kernels.h"

namespace lockstep {

// One head of one token into a plane whose element (page, head, token, 0) is `to`: a run per chunk.
template <typename V, typename T>
[[gnu::always_inline]] inline void store_head(const float* from, const KvPlane& plane, int64_t width, T* to) {
  for (int64_t d = 0; d < width; d += plane.chunk, to += plane.chunk_stride) {
    for_lanes<V>(plane.chunk, [&](int64_t i, int64_t n) {
      if (n == V::kWidth) {
        V::store(to + i, V::load(from + d + i));
      } else {
        V::store_n(to + i, V::load_n(from + d + i, n), n);
      }
    });
  }
}

// Part of the rows per worker; every row has a slot of its own.
template <typename V, typename T>
void store_rows(const StoreKvArgs& args, Worker worker) {
  const KvView& cache = args.cache;
  const auto* slots = static_cast<const int64_t*>(args.slot_mapping.data);
  const auto [begin, end] = worker.share(args.k.dim(0));
  for (int64_t t = begin; t < end && (args.num_rows == nullptr || t < args.num_rows->get()); ++t) {
    const int64_t slot = slots[t * args.slot_mapping.stride(0)];
    if (slot < 0) continue;
    const int64_t page = slot / cache.page_tokens, token = slot % cache.page_tokens;
    for (int64_t h = 0; h < cache.heads; ++h) {
      const float* k = static_cast<const float*>(args.k.data) + t * args.k.stride(0) + h * args.k.stride(1);
      const float* v = static_cast<const float*>(args.v.data) + t * args.v.stride(0) + h * args.v.stride(1);
      store_head<V>(k, cache.k, cache.head_dim,
                    static_cast<T*>(cache.k.data) + cache.k.offset(page, h, token, 0));
      store_head<V>(v, cache.v, cache.head_dim,
                    static_cast<T*>(cache.v.data) + cache.v.offset(page, h, token, 0));
    }
  }
}

template <typename V>
void store_kv_body(const StoreKvArgs& args, Worker worker) {
  with_float_type(args.cache.dtype, [&]<typename T>() { store_rows<V, T>(args, worker); });
}

}  // namespace lockstep
