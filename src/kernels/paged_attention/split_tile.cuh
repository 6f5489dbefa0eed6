// Tiles of 16 tokens of a bf16 cache as a warp brings them to matrix units, and numbers of f32 as theirs.
#pragma once

#include "kernels/paged_attention/cuda_attention.cuh"

namespace lockstep::cuda::split {

inline constexpr int kSplitTile = 16;  // tokens

// What a block attends for.
struct Problem {
  const int32_t* pages = nullptr;
  int64_t t = 0;  // row
  int64_t kv_head = 0;
  int64_t first_head = 0;  // of q
  int heads = 0;           // of q that there are, at most kHeads
  int visible = 0;         // tokens
};

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

// Rows 0..7 alone, the others being zeros.
__device__ inline void multiply_upper(float* c, uint2 a, uint32_t b0, uint32_t b1) {
  asm("{\n.reg .f32 low0, low1;\n"
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,low0,low1}, {%2,%4,%3,%4}, {%5,%6}, "
      "{%0,%1,%7,%7};\n}"
      : "+f"(c[0]), "+f"(c[1])
      : "r"(a.x), "r"(a.y), "r"(0), "r"(b0), "r"(b1), "f"(0.0f));
}

// Eight elements of a token's head from element d on, one by one; zeros past its end. Not inlined: the slow
// way is long.
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

// The same, as one vector where there is one; zeros where there is no token.
template <bool kVectors>
__device__ inline uint4 load_eight(const KvPlane& plane, int64_t token, int d, int head_dim) {
  if (token < 0 || d >= head_dim) return make_uint4(0, 0, 0, 0);
  if constexpr (kVectors)
    return *(reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(plane.data) + token + d));
  return gather_eight(plane, token, d, head_dim);
}

// Where the tokens of a tile lie that this lane reads: offsets of their heads, -1 where there are none.
struct Places {
  int64_t key[2];    // of tokens lane / 4 and 8 behind it
  int64_t value[4];  // of tokens 2 * (lane % 4) and the next, and 8 behind these

  __device__ Places(const KvView& cache, const Problem& problem, int first, int32_t page) {
    const int lane = threadIdx.x % kWarp, position = first + lane % kSplitTile;
    int64_t k = -1, v = -1;
    if (position < problem.visible) {
      const int token = position % cache.page_tokens;
      k = head_at(cache.k, page, problem.kv_head, token);
      v = head_at(cache.v, page, problem.kv_head, token);
    }
    for (int i = 0; i < 2; ++i) key[i] = __shfl_sync(kAllLanes, k, lane / 4 + 8 * i);
    for (int i = 0; i < 4; ++i) value[i] = __shfl_sync(kAllLanes, v, 2 * (lane % 4) + i % 2 + i / 2 * 8);
  }
};

// The page of the tile's token that this lane looks up.
__device__ inline int32_t page_of(const KvView& cache, const Problem& problem, int first) {
  const int position = first + static_cast<int>(threadIdx.x) % kSplitTile;
  return position < problem.visible ? problem.pages[position / cache.page_tokens] : 0;
}

template <int W>
struct Keys {
  uint4 words[W / 32][2];
  template <bool kVectors>
  __device__ void load(const KvView& cache, const Places& places) {
    const int d = static_cast<int>(threadIdx.x) % 4 * 8;
#pragma unroll
    for (int chunk = 0; chunk < W / 32; ++chunk) {
      for (int i = 0; i < 2; ++i)
        words[chunk][i] = load_eight<kVectors>(cache.k, places.key[i], chunk * 32 + d, cache.head_dim);
    }
  }
};

template <int W>
struct Values {
  uint4 words[W / 64][4];
  template <bool kVectors>
  __device__ void load(const KvView& cache, const Places& places) {
    const int d = static_cast<int>(threadIdx.x) % kWarp / 4 * 8;
#pragma unroll
    for (int chunk = 0; chunk < W / 64; ++chunk) {
      for (int i = 0; i < 4; ++i)
        words[chunk][i] = load_eight<kVectors>(cache.v, places.value[i], chunk * 64 + d, cache.head_dim);
    }
  }
  __device__ uint32_t word(int chunk, int token, int i) const {
    const uint4& four = words[chunk][token];
    return i == 0 ? four.x : i == 1 ? four.y : i == 2 ? four.z : four.w;
  }
};

}  // namespace lockstep::cuda::split
