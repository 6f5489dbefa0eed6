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

// Asks memory for the next block while this one is in work, two cache lines per step, in the order in which
// they lie: into the second level, which takes many more lines at once than a core can wait for. Evenly
// spaced steps reach most of the bandwidth of memory even where pages of 4 KiB lie at random; bursts reach
// half.
template <typename V, typename T>
class RowsAhead {
 public:
  static constexpr int64_t kStepBytes = 128;

  RowsAhead() = default;
  // The `heads` heads of `plane` from the one on that `tokens` names; token 0 is at position `first`.
  RowsAhead(const KvPlane& plane, const KvView& cache, const BlockTokens<T>& tokens, int64_t first,
            int64_t heads)
      : tokens_(tokens.at), rows_left_(heads * kAttentionBlock), heads_(heads), head_dim_(cache.head_dim) {
    head_stride_ = plane.head_stride;
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
    if (line_ >= end_ && !next_row()) return;
    __builtin_prefetch(line_, 0, 2);
    __builtin_prefetch(line_ + kStepBytes / 2, 0, 2);
    line_ += kStepBytes;
  }
  // The steps that go with reading kBytes of the block in work for the i-th time.
  template <int64_t kBytes>
  [[gnu::always_inline]] void steps(int64_t i) {
    if constexpr (kBytes >= kStepBytes) {
#pragma GCC unroll 4
      for (int64_t step_bytes = 0; step_bytes < kBytes; step_bytes += kStepBytes) step();
    } else {
      if (i % (kStepBytes / kBytes) == 0) step();
    }
  }

 private:
  bool next_row() {
    if (rows_left_ == 0) return false;
    --rows_left_;
    const T* row = tokens_[token_] + head_ * head_stride_ + in_page_ * region_stride_;
    line_ = reinterpret_cast<const char*>(row);
    end_ = reinterpret_cast<const char*>(row + head_dim_);
    if (heads_inside_) {
      if (++head_ == heads_) {
        head_ = 0;
        ++token_;
      }
      return true;
    }
    if (region_stride_ != 0 && ++in_page_ == page_tokens_) in_page_ = 0;
    if (++token_ == kAttentionBlock) {
      token_ = 0;
      ++head_;
    }
    return true;
  }

  const char* line_ = nullptr;
  const char* end_ = nullptr;
  const T* const* tokens_ = nullptr;
  int64_t rows_left_ = 0;
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

// Calls body(p, d, keys) for d = 0, 1, ... of each group p: keys holds element d of the lanes of tokens from
// token + p * lanes on. P groups take turns, one cache line of each row at a time: their chains are
// independent, and a whole line is used before rows whose stride is a power of two push it out. Asks for as
// much ahead as it reads.
template <typename V, int P, typename T, typename Body>
[[gnu::always_inline]] inline void for_key_columns(const HeadRows<T>& rows, int64_t token, int64_t head_dim,
                                                   RowsAhead<V, T>& ahead, Body&& body) {
  using Reg = typename V::Reg;
  constexpr int64_t kPerWord = 4 / static_cast<int64_t>(sizeof(T));
  constexpr int64_t kLineWords = 16;
  const int64_t words = head_dim / kPerWord;
  for (int64_t line = 0; line < words; line += kLineWords) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      const T* const* from = rows.at + token + p * V::kWidth;
#pragma GCC unroll 2
      for (int64_t word = line; word < line + kLineWords; word += V::kWords) {
        const int64_t n = words - word;
        if (n <= 0) break;
        Reg tile[V::kWords];
        if (n >= V::kWords) {
          V::load_columns(from, rows.offset + word * kPerWord, tile);
        } else {
          V::load_columns_n(from, rows.offset + word * kPerWord, tile, n);
        }
#pragma GCC unroll 8
        for (int64_t j = 0; j < V::kWords; ++j) {
          if (j >= n) break;
          ahead.template steps<V::kWidth * 4>(j);
          if constexpr (kPerWord == 1) {
            body(p, word + j, tile[j]);
          } else {
            body(p, (word + j) * 2, V::even(tile[j], from[0]));
            body(p, (word + j) * 2 + 1, V::odd(tile[j], from[0]));
          }
        }
      }
    }
  }
  // The last element of an odd head size of a half type is no whole word.
  for (int64_t d = words * kPerWord; d < head_dim; ++d) {
    alignas(64) float lanes[P * V::kWidth];
    for (int i = 0; i < P * V::kWidth; ++i) {
      V::store_n(lanes + i, V::load_n(rows.at[token + i] + rows.offset + d, 1), 1);
    }
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) body(p, d, V::load(lanes + p * V::kWidth));
  }
}

// keys[d][token] in f32, for many query vectors: lanes are tokens, so that every score is one chain over d.
template <typename V, typename T>
void transpose_keys(const HeadRows<T>& rows, int64_t head_dim, RowsAhead<V, T>& ahead, float* keys) {
  for (int64_t token = 0; token < kAttentionBlock; token += V::kWidth) {
    for_key_columns<V, 1>(rows, token, head_dim, ahead, [&](int /*p*/, int64_t d, typename V::Reg key) {
      V::store(keys + d * kAttentionBlock + token, key);
    });
  }
}

// values[token][d] in f32: many query vectors then read each value without converting it again.
template <typename V, typename T>
HeadRows<float> widen_values(const HeadRows<T>& rows, int64_t head_dim, RowsAhead<V, T>& ahead, float* values,
                             BlockTokens<float>& widened) {
  const int64_t width = AttentionScratch::width(head_dim);
  for (int64_t token = 0; token < kAttentionBlock; ++token) {
    const T* from = rows.at[token] + rows.offset;
    float* to = values + token * width;
    int64_t d = 0;
    for (; d + V::kWidth <= head_dim; d += V::kWidth) {
      ahead.template steps<V::kWidth * int64_t{sizeof(T)}>(d / V::kWidth);
      V::store(to + d, V::load(from + d));
    }
    if (d < head_dim) V::store(to + d, V::load_n(from + d, head_dim - d));
    widened.at[token] = to;
  }
  return {widened.at, 0};
}

}  // namespace lockstep
