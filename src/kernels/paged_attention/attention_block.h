// One block of keys or values: found through the page table by real strides, and brought into the forms that
// the arithmetic reads. Nothing behind this file knows a layout or a page size.
#pragma once

#include <cstdint>

#include "kernels/kv_cache/kv_view.h"
#include "kernels/paged_attention/attention_scratch.h"

namespace lockstep {

// Where the tokens of a block lie in one plane: the first element of some head of each.
template <typename T>
struct BlockTokens {
  const T* at[kAttentionBlock];
};

// One head of them: element d of token i is at[i][offset + d].
template <typename T>
struct HeadRows {
  const T* const* at;
  int64_t offset;
};

// Finds the block's `count` tokens from position `first` on. Tokens past `count` repeat the first, so that
// loads of whole blocks read memory that the sequence owns.
template <typename V, typename T>
void find_tokens(const KvPlane& plane, int64_t page_tokens, const int32_t* pages, int64_t head, int64_t first,
                 int64_t count, BlockTokens<T>& tokens) {
  const T* base = static_cast<const T*>(plane.data) + head * plane.head_stride;
  int64_t page = first / page_tokens, token = first % page_tokens;
  for (int64_t i = 0; i < count; ++page, token = 0) {
    const T* from = base + pages[page] * plane.page_stride + token * plane.token_stride;
    const int64_t left = page_tokens - token, end = count - i < left ? count : i + left;
    for (; i < end; ++i, from += plane.token_stride) tokens.at[i] = from;
  }
  for (int64_t i = count; i < kAttentionBlock; ++i) tokens.at[i] = tokens.at[0];
}

// Copies chunks of Bytes, token by token within a chunk index: the order in which a page holds them.
template <typename V, typename T, int64_t Bytes>
void gather_chunks(const KvPlane& plane, const HeadRows<T>& rows, int64_t head_dim, T* to) {
  const int64_t width = AttentionScratch::width(head_dim);
  for (int64_t d = 0, from = rows.offset; d < head_dim; d += plane.chunk, from += plane.chunk_stride) {
    for (int64_t i = 0; i < kAttentionBlock; ++i) {
      __builtin_memcpy(to + i * width + d, rows.at[i] + from, Bytes);
    }
  }
}

// Brings a head that lies in chunks side by side, at to[64][width]. A chunk of the layouts there are has 8 to
// 64 bytes.
template <typename V, typename T>
HeadRows<T> gather_rows(const KvPlane& plane, const HeadRows<T>& rows, int64_t head_dim, T* to,
                        BlockTokens<T>& gathered) {
  const int64_t width = AttentionScratch::width(head_dim);
  for (int64_t i = 0; i < kAttentionBlock; ++i) gathered.at[i] = to + i * width;
  switch (plane.chunk * sizeof(T)) {
    case 8: gather_chunks<V, T, 8>(plane, rows, head_dim, to); break;
    case 16: gather_chunks<V, T, 16>(plane, rows, head_dim, to); break;
    case 32: gather_chunks<V, T, 32>(plane, rows, head_dim, to); break;
    case 64: gather_chunks<V, T, 64>(plane, rows, head_dim, to); break;
    default:
      for (int64_t i = 0; i < kAttentionBlock; ++i) {
        for (int64_t d = 0; d < head_dim; ++d) {
          to[i * width + d] =
              rows.at[i][rows.offset + d / plane.chunk * plane.chunk_stride + d % plane.chunk];
        }
      }
  }
  return {gathered.at, 0};
}

// Asks memory for the next block while this one is in work: one token of one head per step, in the order in
// which they lie. Cores fetch far more lines at once into the second level than they do on demand.
template <typename T>
class RowsAhead {
 public:
  RowsAhead() = default;
  // The `heads` heads of `plane` from the one on that `tokens` names; token 0 is at position `first`.
  RowsAhead(const KvPlane& plane, const KvView& cache, const BlockTokens<T>& tokens, int64_t first,
            int64_t heads)
      : tokens_(tokens.at), heads_(heads), head_dim_(cache.head_dim), head_stride_(plane.head_stride) {
    heads_inside_ = plane.head_stride < plane.token_stride;
    // The chunks of a page's tokens fill one region per head; which line of it goes with which token is
    // open, so each token gets as many bytes of the region as it has.
    if (plane.chunk < cache.head_dim) {
      region_stride_ = cache.head_dim - plane.token_stride;
      page_tokens_ = cache.page_tokens;
      in_page_ = first % cache.page_tokens;
    }
  }

  [[gnu::always_inline]] void step() {
    constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
    if (head_ >= heads_ || token_ >= kAttentionBlock) return;
    const T* row = tokens_[token_] + head_ * head_stride_ + in_page_ * region_stride_;
    for (int64_t d = 0; d < head_dim_; d += kLine) __builtin_prefetch(row + d, 0, 2);
    if (heads_inside_) {
      if (++head_ == heads_) {
        head_ = 0;
        ++token_;
      }
      return;
    }
    if (region_stride_ != 0 && ++in_page_ == page_tokens_) in_page_ = 0;
    if (++token_ == kAttentionBlock) {
      token_ = 0;
      ++head_;
    }
  }

 private:
  const T* const* tokens_ = nullptr;
  int64_t heads_ = 0;
  int64_t head_dim_ = 0;
  int64_t head_stride_ = 0;
  int64_t region_stride_ = 0;
  int64_t page_tokens_ = 0;
  int64_t in_page_ = 0;
  int64_t token_ = 0;
  int64_t head_ = 0;
  bool heads_inside_ = false;
};

// Calls body(d, keys) for d = 0, 1, ...: keys[p] holds element d of the P groups of lanes of tokens from
// `token` on. Asks for as many rows ahead as it reads.
template <typename V, int P, typename T, typename Body>
[[gnu::always_inline]] inline void for_key_columns(const HeadRows<T>& rows, int64_t token, int64_t head_dim,
                                                   RowsAhead<T>& ahead, Body&& body) {
  using Reg = typename V::Reg;
  constexpr int64_t kPerWord = 4 / static_cast<int64_t>(sizeof(T));
  const int64_t words = head_dim / kPerWord;
  const int64_t steps = (words + V::kWords - 1) / V::kWords;
  const int64_t rows_per_step = steps == 0 ? 0 : (P * V::kWidth + steps - 1) / steps;
  const T* const* from = rows.at + token;
  Reg tile[P][V::kWords];
  for (int64_t word = 0; word < words; word += V::kWords) {
    for (int64_t i = 0; i < rows_per_step; ++i) ahead.step();
    const int64_t n = words - word, d = word * kPerWord;
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      if (n >= V::kWords) {
        V::load_columns(from + p * V::kWidth, rows.offset + d, tile[p]);
      } else {
        V::load_columns_n(from + p * V::kWidth, rows.offset + d, tile[p], n);
      }
    }
#pragma GCC unroll 8
    for (int64_t j = 0; j < V::kWords; ++j) {
      if (j >= n) break;
      Reg keys[P];
      if constexpr (kPerWord == 1) {
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p) keys[p] = tile[p][j];
        body(d + j, keys);
      } else {
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p) keys[p] = V::even(tile[p][j], from[0]);
        body(d + 2 * j, keys);
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p) keys[p] = V::odd(tile[p][j], from[0]);
        body(d + 2 * j + 1, keys);
      }
    }
  }
  // The last element of an odd head size of a half type is no whole word.
  for (int64_t d = words * kPerWord; d < head_dim; ++d) {
    alignas(64) float lanes[P * V::kWidth];
    for (int i = 0; i < P * V::kWidth; ++i) V::store_n(lanes + i, V::load_n(from[i] + rows.offset + d, 1), 1);
    Reg keys[P];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) keys[p] = V::load(lanes + p * V::kWidth);
    body(d, keys);
  }
}

// keys[d][token] in f32, for many query vectors: lanes are tokens, so that every score is one chain over d.
template <typename V, typename T>
void transpose_keys(const HeadRows<T>& rows, int64_t head_dim, RowsAhead<T>& ahead, float* keys) {
  for (int64_t token = 0; token < kAttentionBlock; token += V::kWidth) {
    for_key_columns<V, 1>(rows, token, head_dim, ahead, [&](int64_t d, const typename V::Reg(&key)[1]) {
      V::store(keys + d * kAttentionBlock + token, key[0]);
    });
  }
}

// values[token][d] in f32: many query vectors then read each value without converting it again.
template <typename V, typename T>
HeadRows<float> widen_values(const HeadRows<T>& rows, int64_t head_dim, RowsAhead<T>& ahead, float* values,
                             BlockTokens<float>& widened) {
  const int64_t width = AttentionScratch::width(head_dim);
  for (int64_t token = 0; token < kAttentionBlock; ++token) {
    ahead.step();
    const T* from = rows.at[token] + rows.offset;
    float* to = values + token * width;
    int64_t d = 0;
    for (; d + V::kWidth <= head_dim; d += V::kWidth) V::store(to + d, V::load(from + d));
    if (d < head_dim) V::store(to + d, V::load_n(from + d, head_dim - d));
    widened.at[token] = to;
  }
  return {widened.at, 0};
}

}  // namespace lockstep
