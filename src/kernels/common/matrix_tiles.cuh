// Products of a warp on matrix units, 16 rows by 8 columns by 16 at a time: bf16 numbers from shared memory,
// sums in f32 in registers. Of a tile of sums, a thread has columns 2 (lane % 4) and the next, of rows lane /
// 4 and 8 behind it. Lines of shared memory begin at multiples of 16 bytes; an odd multiple from one to the
// next avoids conflicts.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/common/device_math.cuh"

namespace lockstep::cuda {

struct TileSums {
  float c[4] = {0.0f, 0.0f, 0.0f, 0.0f};
};

__device__ inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Four matrices of 8 by 8, whose lines begin where the lanes say, eight lanes a matrix.
__device__ inline void load_matrices(const __nv_bfloat16* line, uint32_t (&to)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(line))
               : "memory");
}
__device__ inline void load_turned(const __nv_bfloat16* line, uint32_t (&to)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(line))
               : "memory");
}

// The left operand: 16 rows by 16. Lines along k, or along its rows.
__device__ inline void load_left(const __nv_bfloat16* tile, int stride, uint32_t (&to)[4]) {
  const int lane = threadIdx.x % kWarp;
  load_matrices(tile + lane % 16 * stride + lane / 16 * 8, to);
}
__device__ inline void load_left_turned(const __nv_bfloat16* tile, int stride, uint32_t (&to)[4]) {
  const int lane = threadIdx.x % kWarp;
  load_turned(tile + (lane / 16 * 8 + lane % 8) * stride + lane / 8 % 2 * 8, to);
}
// The right operand, two tiles: 16 by 16 columns. Lines along k, or along its columns.
__device__ inline void load_right(const __nv_bfloat16* tile, int stride, uint32_t (&to)[4]) {
  const int lane = threadIdx.x % kWarp;
  load_matrices(tile + (lane / 16 * 8 + lane % 8) * stride + lane / 8 % 2 * 8, to);
}
__device__ inline void load_right_turned(const __nv_bfloat16* tile, int stride, uint32_t (&to)[4]) {
  const int lane = threadIdx.x % kWarp;
  load_turned(tile + lane % 16 * stride + lane / 16 * 8, to);
}

// sums += left * right, of one tile: words 0 and 1 of `right`, or 2 and 3.
__device__ inline void multiply_tile(TileSums& sums, const uint32_t (&left)[4], uint32_t right0,
                                     uint32_t right1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(sums.c[0]), "+f"(sums.c[1]), "+f"(sums.c[2]), "+f"(sums.c[3])
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right0), "r"(right1));
}

// Two numbers, the first at the lower address.
__device__ inline uint32_t packed(float first, float second) {
  const __nv_bfloat162 two = __floats2bfloat162_rn(first, second);
  return *reinterpret_cast<const uint32_t*>(&two);
}

// 16 bytes to shared memory on their own; zeros where there is nothing to read.
__device__ inline void fetch_16(void* to, const void* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
               "r"(there ? 16 : 0)
               : "memory");
}
__device__ inline void await_fetched() { asm volatile("cp.async.wait_all;" ::: "memory"); }

}  // namespace lockstep::cuda
