// One block of one kv head's keys or values: found through the page table by real strides, and brought into
// the one form that the arithmetic reads. Nothing behind this file knows a layout or a page size.
#pragma once

#include <cstdint>

#include "kernels/kv_cache/kv_view.h"
#include "kernels/paged_attention/attention_scratch.h"

namespace lockstep {

// Where the D elements of each token of a block lie, side by side.
template <typename T>
struct BlockRows {
  const T* row[kAttentionBlock];
};

// Copies `bytes`, which is a power of two from 8 to 64 for the layouts there are.
[[gnu::always_inline]] inline void copy_chunk(char* to, const char* from, int64_t bytes) {
  switch (bytes) {
    case 8: __builtin_memcpy(to, from, 8); break;
    case 16: __builtin_memcpy(to, from, 16); break;
    case 32: __builtin_memcpy(to, from, 32); break;
    case 64: __builtin_memcpy(to, from, 64); break;
    default:
      for (int64_t i = 0; i < bytes; ++i) to[i] = from[i];
  }
}

// A token's elements, wherever they lie, as a row at `to`.
template <typename V, typename T>
[[gnu::always_inline]] inline void gather_row(const KvPlane& plane, const T* from, int64_t head_dim, T* to) {
  const int64_t bytes = plane.chunk * static_cast<int64_t>(sizeof(T));
  for (int64_t d = 0; d < head_dim; d += plane.chunk, from += plane.chunk_stride) {
    copy_chunk(reinterpret_cast<char*>(to + d), reinterpret_cast<const char*>(from), bytes);
  }
}

// The block's `count` tokens from position `first` on. Chunked rows are gathered first; rows past `count`
// repeat the first, so that loads of whole blocks read memory that the sequence owns.
template <typename V, typename T>
void find_rows(const KvView& cache, const KvPlane& plane, const int32_t* pages, int64_t head, int64_t first,
               int64_t count, T* gathered, BlockRows<T>& rows) {
  const int64_t width = AttentionScratch::width(cache.head_dim);
  const bool chunked = plane.chunk < cache.head_dim;
  int64_t page = first / cache.page_tokens, token = first % cache.page_tokens;
  const T* base = static_cast<const T*>(plane.data) + head * plane.head_stride;
  for (int64_t i = 0; i < count; ++i) {
    const T* from = base + pages[page] * plane.page_stride + token * plane.token_stride;
    if (chunked) gather_row<V>(plane, from, cache.head_dim, gathered + i * width);
    rows.row[i] = chunked ? gathered + i * width : from;
    if (++token == cache.page_tokens) {
      token = 0;
      ++page;
    }
  }
  for (int64_t i = count; i < kAttentionBlock; ++i) rows.row[i] = rows.row[0];
}

// keys[d][token] in f32, so that lanes are tokens and every score is one chain over d.
template <typename V, typename T>
void transpose_keys(const BlockRows<T>& rows, int64_t head_dim, float* keys) {
  constexpr int64_t kPerWord = 4 / static_cast<int64_t>(sizeof(T));
  const int64_t words = head_dim / kPerWord;
  for (int64_t token = 0; token < kAttentionBlock; token += V::kWidth) {
    const T* const* row = rows.row + token;
    float* to = keys + token;
    for (int64_t word = 0; word < words; word += V::kWidth) {
      const int64_t n = words - word < V::kWidth ? words - word : V::kWidth;
      typename V::Reg tile[V::kWidth];
#pragma GCC unroll 16
      for (int i = 0; i < V::kWidth; ++i) {
        const T* from = row[i] + word * kPerWord;
        tile[i] = n == V::kWidth ? V::load_words(from) : V::load_words_n(from, n);
      }
      V::transpose(tile);
#pragma GCC unroll 16
      for (int i = 0; i < V::kWidth; ++i) {
        if (i >= n) break;
        float* at = to + (word + i) * kPerWord * kAttentionBlock;
        if constexpr (kPerWord == 1) {
          V::store(at, tile[i]);
        } else {
          V::store(at, V::even(tile[i], rows.row[0]));
          V::store(at + kAttentionBlock, V::odd(tile[i], rows.row[0]));
        }
      }
    }
    for (int64_t d = words * kPerWord; d < head_dim; ++d) {
      for (int i = 0; i < V::kWidth; ++i)
        V::store_n(to + d * kAttentionBlock + i, V::load_n(row[i] + d, 1), 1);
    }
  }
}

// values[token][d] in f32. Many query vectors then read each value without converting it again.
template <typename V, typename T>
void widen_values(const BlockRows<T>& rows, int64_t head_dim, float* values, BlockRows<float>& widened) {
  const int64_t width = AttentionScratch::width(head_dim);
  for (int64_t token = 0; token < kAttentionBlock; ++token) {
    float* to = values + token * width;
    int64_t d = 0;
    for (; d + V::kWidth <= head_dim; d += V::kWidth) V::store(to + d, V::load(rows.row[token] + d));
    if (d < head_dim) V::store(to + d, V::load_n(rows.row[token] + d, head_dim - d));
    widened.row[token] = to;
  }
}

}  // namespace lockstep
