// Products of warp groups on Hopper's matrix units, 64 rows by 64 or 128 columns by 16 at a time, summed in
// f32; and the shared memory that they read: lines of 64 bf16 numbers, whose vectors of 16 bytes lie
// swizzled.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/common/device_math.cuh"

namespace lockstep::cuda {

inline constexpr int kLineElements = 64;
inline constexpr int kLineBytes = 128;
inline constexpr int kSwizzledLines = 8;  // after which places repeat

// Where vector `v` (of 8 elements) of line `line` lies, in bytes from the beginning, which is aligned to
// 1024.
__device__ inline int swizzled(int line, int v) { return line * kLineBytes + ((v ^ (line & 7)) << 4); }

// An operand in shared memory: groups of eight lines follow each other.
struct Operand {
  uint32_t low;
  // What lies `bytes` behind it, a multiple of 16.
  __device__ Operand behind(int bytes) const { return {low + static_cast<uint32_t>(bytes >> 4)}; }
  __device__ uint64_t words() const {
    constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
    constexpr uint64_t kGroup = uint64_t{kSwizzledLines * kLineBytes >> 4} << 32;
    return kSwizzle128 | kGroup | low;
  }
};
// From `address` on, which is the same in all threads and aligned to 16. `chunk_bytes` apart lie the next 64
// columns of an operand whose lines run along its columns; others have none.
__device__ inline Operand operand_at(const void* address, int chunk_bytes = 16) {
  const auto start = static_cast<uint32_t>(__cvta_generic_to_shared(address));
  const uint32_t low = static_cast<uint32_t>(chunk_bytes >> 4) << 16 | (start & 0x3FFFF) >> 4;
  return {__shfl_sync(kAllLanes, low, 0)};  // so the compiler knows, too
}

// What other threads wrote to shared memory, after a barrier, or this thread before one, is seen by products.
__device__ inline void show_to_matrix_units() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
// Around products: registers are ready; these products are one group; all groups but the newest N are done.
__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N = 0>
__device__ inline void await_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
// Sums and operands in registers are written before this, which stands before begin_products(), and sums are
// read after this, which stands behind await_products().
template <int N>
__device__ inline void keep_products(float (&c)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+f"(c[i])::"memory");
}
template <int N>
__device__ inline void keep_products(uint32_t (&a)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+r"(a[i])::"memory");
}

// The registers of 32 and of 64 sums, as instructions and operands name them.
#define LS_SUMS_32                                                                                 \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25," \
  "%26,%27,%28,%29,%30,%31"
#define LS_SUMS_64                                                                                   \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,"   \
  "%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49," \
  "%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define LS_OPERANDS_32(c)                                                                                   \
  "+f"((c)[0]), "+f"((c)[1]), "+f"((c)[2]), "+f"((c)[3]), "+f"((c)[4]), "+f"((c)[5]), "+f"((c)[6]),         \
      "+f"((c)[7]), "+f"((c)[8]), "+f"((c)[9]), "+f"((c)[10]), "+f"((c)[11]), "+f"((c)[12]), "+f"((c)[13]), \
      "+f"((c)[14]), "+f"((c)[15]), "+f"((c)[16]), "+f"((c)[17]), "+f"((c)[18]), "+f"((c)[19]),             \
      "+f"((c)[20]), "+f"((c)[21]), "+f"((c)[22]), "+f"((c)[23]), "+f"((c)[24]), "+f"((c)[25]),             \
      "+f"((c)[26]), "+f"((c)[27]), "+f"((c)[28]), "+f"((c)[29]), "+f"((c)[30]), "+f"((c)[31])
#define LS_OPERANDS_64(c)                                                                                   \
  "+f"((c)[0]), "+f"((c)[1]), "+f"((c)[2]), "+f"((c)[3]), "+f"((c)[4]), "+f"((c)[5]), "+f"((c)[6]),         \
      "+f"((c)[7]), "+f"((c)[8]), "+f"((c)[9]), "+f"((c)[10]), "+f"((c)[11]), "+f"((c)[12]), "+f"((c)[13]), \
      "+f"((c)[14]), "+f"((c)[15]), "+f"((c)[16]), "+f"((c)[17]), "+f"((c)[18]), "+f"((c)[19]),             \
      "+f"((c)[20]), "+f"((c)[21]), "+f"((c)[22]), "+f"((c)[23]), "+f"((c)[24]), "+f"((c)[25]),             \
      "+f"((c)[26]), "+f"((c)[27]), "+f"((c)[28]), "+f"((c)[29]), "+f"((c)[30]), "+f"((c)[31]),             \
      "+f"((c)[32]), "+f"((c)[33]), "+f"((c)[34]), "+f"((c)[35]), "+f"((c)[36]), "+f"((c)[37]),             \
      "+f"((c)[38]), "+f"((c)[39]), "+f"((c)[40]), "+f"((c)[41]), "+f"((c)[42]), "+f"((c)[43]),             \
      "+f"((c)[44]), "+f"((c)[45]), "+f"((c)[46]), "+f"((c)[47]), "+f"((c)[48]), "+f"((c)[49]),             \
      "+f"((c)[50]), "+f"((c)[51]), "+f"((c)[52]), "+f"((c)[53]), "+f"((c)[54]), "+f"((c)[55]),             \
      "+f"((c)[56]), "+f"((c)[57]), "+f"((c)[58]), "+f"((c)[59]), "+f"((c)[60]), "+f"((c)[61]),             \
      "+f"((c)[62]), "+f"((c)[63])

// c (+)= a * b', for 64 columns of c and for 128. Both lie in shared memory with lines along k. `add` false:
// c is overwritten.
__device__ inline void multiply_lines(float (&c)[32], Operand a, Operand b, bool add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" LS_SUMS_32 "}, %32, %33, p, 1, 1, 0, 0;\n}\n"
      : LS_OPERANDS_32(c)
      : "l"(a.words()), "l"(b.words()), "r"(static_cast<int>(add)));
}
__device__ inline void multiply_lines(float (&c)[64], Operand a, Operand b, bool add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" LS_SUMS_64 "}, %64, %65, p, 1, 1, 0, 0;\n}\n"
      : LS_OPERANDS_64(c)
      : "l"(a.words()), "l"(b.words()), "r"(static_cast<int>(add)));
}

// c += a * b. a lies in registers, b in shared memory with lines along its columns.
__device__ inline void multiply_registers(float (&c)[32], const uint32_t* a, Operand b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" LS_SUMS_32
               "}, {%32,%33,%34,%35}, %36, 1, 1, 1, 1;\n"
               : LS_OPERANDS_32(c)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b.words()));
}
__device__ inline void multiply_registers(float (&c)[64], const uint32_t* a, Operand b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" LS_SUMS_64
               "}, {%64,%65,%66,%67}, %68, 1, 1, 1, 1;\n"
               : LS_OPERANDS_64(c)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b.words()));
}

#undef LS_OPERANDS_64
#undef LS_OPERANDS_32
#undef LS_SUMS_64
#undef LS_SUMS_32

// 16 bytes to shared memory on their own; zeros where there is nothing to read.
__device__ inline void fetch_vector(void* to, const void* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(to))),
               "l"(from), "r"(there ? 16 : 0)
               : "memory");
}
__device__ inline void await_vectors() { asm volatile("cp.async.wait_all;" ::: "memory"); }

}  // namespace lockstep::cuda
