// Tiles of 16 tokens of a bf16 cache: how a warp sends for them to shared memory, and their products.
//
// Which element of a head a product takes as its k-th is free as long as both sides agree: lanes load 16
// bytes of a token and use them as they come. Vectors of 16 bytes lie in a token's line so that the eight
// lanes that read at a time read from different banks.
#pragma once

#include "kernels/common/matrix_units.cuh"
#include "kernels/paged_attention/split_rows.cuh"

namespace lockstep::cuda::split {

inline constexpr int kSplitTile = 16;  // tokens
inline constexpr int kHeads = 8;       // of q, at most

// The bf16 parts of two numbers, side by side: all bits of f32 where it is finite.
struct Parts {
  uint32_t part[3];
  __device__ Parts(float x, float y) {
    uint32_t a[3], b[3];
    split(x, a);
    split(y, b);
    for (int i = 0; i < 3; ++i) part[i] = __byte_perm(a[i], b[i], 0x7632);
  }
  // Cut, not rounded: what is left over is exact, and never overflows.
  __device__ static void split(float x, uint32_t* parts) {
    for (int i = 0; i < 3; ++i) {
      parts[i] = __float_as_uint(x) & 0xFFFF0000u;
      x = isfinite(x) ? x - __uint_as_float(parts[i]) : 0.0f;
    }
  }
};

// Rows 0..15 of a, and sums of all of them.
__device__ inline void multiply_all(float* c, uint4 a, uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}

// Rows 0..7 alone: those behind add nothing.
__device__ inline void multiply_upper(float* c, uint2 a, uint32_t b0, uint32_t b1) {
  multiply_all(c, make_uint4(a.x, 0, a.y, 0), b0, b1);
}

// The keys or the values of a tile, of heads of at most W elements.
template <int W>
struct Lines {
  static constexpr int kVectors = W / 8;  // of a line
  uint4 vectors[kSplitTile][kVectors];
};
template <int W>
struct Tile {
  Lines<W> keys;
  Lines<W> values;
};
__device__ inline int key_place(int token, int v) { return v ^ (token & 1) << 2; }
__device__ inline int value_place(int token, int v) { return v ^ (token & 6); }

// How a warp sends for the tokens of a tile.
enum class Reads {
  kElements,  // one by one: a head lies in pieces
  kVectors,   // in vectors of eight elements
  kRuns,      // likewise, and a tile lies in one page
};

// Eight elements of a head from element d on, one by one. Not inlined: the slow way is long.
__device__ __noinline__ inline uint4 gather_eight(const KvPlane& plane, int64_t token, int d, int head_dim) {
  const auto* data = static_cast<const uint16_t*>(plane.data);
  uint32_t words[4];
  for (int i = 0; i < 4; ++i) {
    const int e = d + 2 * i;
    const uint32_t low = e < head_dim ? data[token + within_head(plane, e)] : 0;
    const uint32_t high = e + 1 < head_dim ? data[token + within_head(plane, e + 1)] : 0;
    words[i] = low | high << 16;
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

struct Plane {
  const KvPlane& plane;
  int head_dim;
};
// Sends for vector `v` of the head that begins at `token`, or for zeros.
template <Reads kReads>
__device__ inline void fetch_eight(const Plane& of, int64_t token, int v, bool there, uint4* to) {
  if constexpr (kReads == Reads::kElements) {
    *to = there ? gather_eight(of.plane, token, v * 8, of.head_dim) : make_uint4(0, 0, 0, 0);
  } else {
    fetch_vector(to, static_cast<const uint16_t*>(of.plane.data) + token + v * 8, there);
  }
}

// Sends for `count` tokens. Lane i and lane i + 16 give the place of token i; of a run, that of its first.
template <Reads kReads, int W>
__device__ void fetch_tile(const KvView& cache, int64_t kv_head, int32_t page, int in_page, int count,
                           Tile<W>& tile) {
  constexpr int kOfToken = W / 8, kStep = kWarp / kOfToken;  // vectors; tokens from round to round
  constexpr bool kSteps = kReads == Reads::kRuns && kWarp % kOfToken == 0;
  const int lane = threadIdx.x % kWarp;
  const int64_t key = head_at(cache.k, page, kv_head, in_page),
                value = head_at(cache.v, page, kv_head, in_page);
  int64_t k = key + lane / kOfToken * cache.k.token_stride,
          at = value + lane / kOfToken * cache.v.token_stride;
#pragma unroll
  for (int round = 0; round < kSplitTile * kOfToken / kWarp; ++round) {
    const int i = round * kWarp + lane, token = i / kOfToken, v = i % kOfToken;
    const bool there = token < count && v * 8 < cache.head_dim;
    if constexpr (kSteps) {
      k += round == 0 ? 0 : kStep * cache.k.token_stride;
      at += round == 0 ? 0 : kStep * cache.v.token_stride;
    } else if constexpr (kReads == Reads::kRuns) {
      k = key + token * cache.k.token_stride;
      at = value + token * cache.v.token_stride;
    } else {
      k = __shfl_sync(kAllLanes, key, token);
      at = __shfl_sync(kAllLanes, value, token);
    }
    fetch_eight<kReads>({cache.k, cache.head_dim}, k, v, there,
                        &tile.keys.vectors[token][key_place(token, v)]);
    fetch_eight<kReads>({cache.v, cache.head_dim}, at, v, there,
                        &tile.values.vectors[token][value_place(token, v)]);
  }
}

// Queries as a lane's share of products: of head lane / 4. Two parts are the upper and the lower rows of one.
// Scores are powers of two.
template <int W>
struct Queries {
  uint4 first_two[W / 16];
  uint2 third[W / 16];

  __device__ void load(const PagedAttentionArgs& args, int64_t t, int64_t first_head, int heads) {
    const int lane = threadIdx.x % kWarp, g = lane / 4;
    const float scale = args.scale * kLog2E;
    const float* q = at<const float>(args.q, t, first_head + (g < heads ? g : 0));
#pragma unroll
    for (int step = 0; step < W / 16; ++step) {
      const int first = step / 2 * 32 + lane % 4 * 8 + step % 2 * 4;
      float x[4];
#pragma unroll
      for (int j = 0; j < 4; ++j)
        x[j] = g < heads && first + j < args.cache.head_dim ? q[first + j] * scale : 0.0f;
      const Parts low(x[0], x[1]), high(x[2], x[3]);
      first_two[step] = make_uint4(low.part[0], low.part[1], high.part[0], high.part[1]);
      third[step] = make_uint2(low.part[2], high.part[2]);
    }
  }
};

// Running sums of head lane / 4: elements 16 * (lane % 4) and the next 15 of each 64. Elements i and i + 8 of
// these are out[..][i][0] and [1]; behind them stands what the second part of the weights has added.
template <int W>
struct Sums {
  float top = -INFINITY;
  float total = 0.0f;  // of this lane's tokens: 2 * (lane % 4) and the next, and 8 behind these
  float out[W / 64][8][4] = {};
};

// Of head lane / 4 and this lane's tokens.
template <int W>
__device__ void score_tile(const Queries<W>& queries, const Lines<W>& keys, float* scores) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int token = lane / 4 + 8 * i;
    float two[4] = {}, third[4] = {};
#pragma unroll
    for (int chunk = 0; chunk < W / 32; ++chunk) {
      const uint4 words = keys.vectors[token][key_place(token, chunk * 4 + lane % 4)];
      multiply_all(two, queries.first_two[2 * chunk], words.x, words.y);
      multiply_upper(third, queries.third[2 * chunk], words.x, words.y);
      multiply_all(two, queries.first_two[2 * chunk + 1], words.z, words.w);
      multiply_upper(third, queries.third[2 * chunk + 1], words.z, words.w);
    }
    for (int j = 0; j < 2; ++j) scores[2 * i + j] = third[j] + two[2 + j] + two[j];
  }
}

// Scores become weights, and the sums so far are brought to the new top. A score of -infinity weighs nothing;
// one that is no number makes the total none.
template <int W>
__device__ void weigh_tile(int count, float* scores, Sums<W>& sums) {
  float top = sums.top;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int token = 2 * static_cast<int>(threadIdx.x % 4) + i % 2 + i / 2 * 8;
    if (token >= count) scores[i] = -INFINITY;
    top = fmaxf(top, scores[i]);
  }
  for (int offset = 1; offset < 4; offset *= 2) top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, offset));
  const float shift = top == -INFINITY ? 0.0f : top;  // then every score is -infinity, and weighs nothing
  const float before = exp2_of(sums.top - shift);
  sums.total *= before;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    scores[i] = exp2_of(scores[i] - shift);
    sums.total += scores[i];
  }
  sums.top = top;
  if (!__any_sync(kAllLanes, before != 1.0f)) return;
#pragma unroll
  for (int chunk = 0; chunk < W / 64; ++chunk) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      for (float& out : sums.out[chunk][i]) out *= before;
    }
  }
}

__device__ inline uint32_t word_of(const uint4& four, int i) {
  return i == 0 ? four.x : i == 1 ? four.y : i == 2 ? four.z : four.w;
}

template <int W>
__device__ void add_values(const Lines<W>& values, const float* weights, Sums<W>& sums) {
  const Parts low(weights[0], weights[1]), high(weights[2], weights[3]);
  const int lane = threadIdx.x % kWarp, token = 2 * (lane % 4);
#pragma unroll
  for (int chunk = 0; chunk < W / 64; ++chunk) {
    const int place = value_place(token, chunk * 8 + lane / 4);  // the same for all four
    uint4 four[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) four[i] = values.vectors[token + i % 2 + i / 2 * 8][place];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const unsigned half = i % 2 == 0 ? 0x5410 : 0x7632;
      const uint32_t b0 = __byte_perm(word_of(four[0], i / 2), word_of(four[1], i / 2), half);
      const uint32_t b1 = __byte_perm(word_of(four[2], i / 2), word_of(four[3], i / 2), half);
      multiply_upper(sums.out[chunk][i], make_uint2(low.part[2], high.part[2]), b0, b1);
      multiply_all(sums.out[chunk][i], make_uint4(low.part[0], low.part[1], high.part[0], high.part[1]), b0,
                   b1);
    }
  }
}

}  // namespace lockstep::cuda::split
