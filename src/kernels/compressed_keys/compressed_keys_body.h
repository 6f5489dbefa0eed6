// compress_keys over a vector type: the body of the AVX2 and AVX-512 kernels.
#pragma once

#include "kernels/common/simd_rows.h"
#include "kernels/compressed_keys/compressed_keys_kernels.h"

namespace lockstep {

// The keys of one sequence and head, found through the page table.
template <typename T>
struct KeyPages {
  const KvView& cache;
  const int32_t* pages;
  int64_t head;

  // Element 0 of the key at `position`.
  [[gnu::always_inline]] const T* key(int64_t position) const {
    const KvPlane& plane = cache.k;
    const int64_t page = pages[position / cache.page_tokens], token = position % cache.page_tokens;
    return static_cast<const T*>(plane.data) + page * plane.page_stride + head * plane.head_stride +
           token * plane.token_stride;
  }
};

template <typename V, typename T>
void compress_window(const KeyPages<T>& keys, const KeyWindows& windows, int64_t j, T* to) {
  const KvPlane& plane = keys.cache.k;
  const typename V::Reg count = V::set1(static_cast<float>(windows.tokens));
  int64_t from = 0;
  for (int64_t d = 0; d < keys.cache.head_dim; d += plane.chunk, from += plane.chunk_stride) {
    for_lanes<V>(plane.chunk, [&](int64_t i, int64_t n) {
      typename V::Reg sum = V::zero();
      for (int64_t token = j * windows.stride; token < windows.end(j); ++token) {
        const T* key = keys.key(token) + from + i;
        sum = V::add(sum, n == V::kWidth ? V::load(key) : V::load_n(key, n));
      }
      const typename V::Reg mean = V::div(sum, count);
      n == V::kWidth ? V::store(to + d + i, mean) : V::store_n(to + d + i, mean, n);
    });
  }
}

// The windows of one kind that the step completes, counted through all sequences and heads: each worker does
// part of them.
template <typename V, typename T>
void compress_windows(const CompressKeysArgs& args, const KeyWindows& windows, const TensorView& out,
                      Worker worker) {
  const auto* spans = static_cast<const int32_t*>(args.spans.data);
  const auto* rows = static_cast<const int32_t*>(args.table_rows.data);
  const auto* compressed_rows = static_cast<const int32_t*>(args.compressed_rows.data);
  const int64_t heads = args.cache.heads, per_page = out.dim(2);
  int64_t item = 0;
  for (int64_t s = 0; s < args.num_seqs->get() / args.parts; ++s) {
    const int64_t before = spans[2 * s], after = before + spans[2 * s + 1];
    const int32_t* pages =
        static_cast<const int32_t*>(args.page_table.data) + rows[s] * args.page_table.stride(0);
    const int32_t* compressed = static_cast<const int32_t*>(args.compressed_table.data) +
                                compressed_rows[s] * args.compressed_table.stride(0);
    for (int64_t j = windows.complete(before); j < windows.complete(after); ++j) {
      for (int64_t head = 0; head < heads; ++head, ++item) {
        if (item % worker.count != worker.index) continue;
        const int64_t row = j + 1;
        T* to = static_cast<T*>(out.data) + compressed[row / per_page] * out.stride(0) +
                head * out.stride(1) + row % per_page * out.stride(2);
        compress_window<V, T>({args.cache, pages, head}, windows, j, to);
      }
    }
  }
}

template <typename V>
void compress_keys_body(const CompressKeysArgs& args, Worker worker) {
  with_float_type(args.cache.dtype, [&]<typename T>() {
    compress_windows<V, T>(args, kFineWindows, args.k1, worker);
    compress_windows<V, T>(args, kCoarseWindows, args.k2, worker);
  });
}

}  // namespace lockstep
