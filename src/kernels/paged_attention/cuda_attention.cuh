// The ways in which the device attends over bf16 caches, and what they share.
#pragma once

#include "kernels/common/sequence_owner.cuh"
#include "kernels/kv_cache/kv_plane.cuh"
#include "kernels/paged_attention/paged_attention.h"

namespace lockstep::cuda {

inline constexpr float kLog2E = 1.44269504f;

// Which rows a launch computes.
enum class SplitRows : int32_t {
  kAll,        // and zeros for those that no live sequence owns
  kOfSingles,  // those of live sequences of one row, alone
};

// Rows one by one, each split over its tokens, as exact as f32. For caches of bf16.
void attend_split(const PagedAttentionArgs& args, SplitRows rows, const Worker& worker);

// Whether attend_tiles() serves the launch: matrix units read whole vectors of a head.
bool suits_tiles(const PagedAttentionArgs& args);
// The rows of live sequences of more than one row, in tiles that share the tokens they read; q and the
// weights of tokens enter the products rounded to bf16. Zeros for rows that no live sequence owns.
void attend_tiles(const PagedAttentionArgs& args, const Worker& worker);

// 2 to the x; 0 where that is less than the smallest normal number.
__device__ inline float exp2_of(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// NaN where either is one: a maximum passes over it, and a row with one must not look whole.
__device__ inline float larger(float a, float b) {
  return isnan(a) || isnan(b) ? __int_as_float(0x7FC00000) : fmaxf(a, b);
}

// Joins C parts in their order: totals and elements come to the top of all. Tops are powers of two.
template <int C>
struct Join {
  float top = -INFINITY;
  float scale[C];
  float total = 0.0f;

  __device__ Join(const float (&tops)[C], const float (&totals)[C]) {
#pragma unroll
    for (int part = 0; part < C; ++part) top = larger(top, tops[part]);
#pragma unroll
    for (int part = 0; part < C; ++part) {
      scale[part] = tops[part] == -INFINITY ? 0.0f : exp2f(tops[part] - top);
      total = __fmaf_rn(totals[part], scale[part], total);
    }
  }
  __device__ float sum(const float (&values)[C]) const {
    float all = 0.0f;
#pragma unroll
    for (int part = 0; part < C; ++part) all = __fmaf_rn(values[part], scale[part], all);
    return all;
  }
};

// Whether eight elements of a head from a multiple of eight on are one aligned vector.
inline bool has_vectors(const KvPlane& plane, int64_t head_dim) {
  const int64_t strides = plane.page_stride | plane.head_stride | plane.token_stride | head_dim;
  return plane.chunk >= head_dim && strides % 8 == 0 && reinterpret_cast<uintptr_t>(plane.data) % 16 == 0;
}

}  // namespace lockstep::cuda
