// The digest of base/digest.h as a warp computes it: four chains side by side, one per lane, over bytes that
// the block has brought into shared memory.
#pragma once

#include <cstdint>

#include "kernels/common/device_math.cuh"

namespace lockstep::cuda {

__device__ inline uint64_t mix(uint64_t a, uint64_t b) {
  const uint64_t x = a ^ 0x9E3779B97F4A7C15u, y = b ^ 0xD6E8FEB86659FD93u;
  return x * y ^ __umul64hi(x, y);
}

// The last 0 to 15 bytes, as two words filled up with zeros.
__device__ inline void tail_words(const unsigned char* bytes, int64_t size, uint64_t* words) {
  words[0] = words[1] = 0;
  for (int64_t i = 0; i < size; ++i) words[i / 8] |= static_cast<uint64_t>(bytes[i]) << (8 * (i % 8));
}

inline constexpr int kDigestThreads = 128;
inline constexpr int64_t kDigestChunk = 16384;  // a multiple of what four chains take in one step

// Copies `size` bytes to shared memory, in pieces of 16 where they begin at a multiple of that.
__device__ inline void bring(const unsigned char* bytes, int64_t size, unsigned char* chunk) {
  const int64_t wide = reinterpret_cast<uintptr_t>(bytes) % sizeof(uint4) == 0 ? size / 16 : 0;
  const auto* pieces = reinterpret_cast<const uint4*>(bytes);
  for (int64_t i = threadIdx.x; i < wide; i += kDigestThreads) reinterpret_cast<uint4*>(chunk)[i] = pieces[i];
  for (int64_t i = wide * 16 + threadIdx.x; i < size; i += kDigestThreads) chunk[i] = bytes[i];
}

// Digest of `size` bytes, chained from 0, in thread 0. The whole block calls it.
__device__ inline uint64_t block_digest(const unsigned char* bytes, int64_t size) {
  __shared__ __align__(16) unsigned char chunk[kDigestChunk];
  const int lane = threadIdx.x;
  uint64_t state = mix(0, static_cast<uint64_t>(size));
  int64_t begin = 0, count = 0;
  do {
    count = size - begin < kDigestChunk ? size - begin : kDigestChunk;
    __syncthreads();
    bring(bytes + begin, count, chunk);
    __syncthreads();
    for (int64_t i = 0; lane < 4 && i + 64 <= count; i += 64) {
      const auto* words = reinterpret_cast<const uint64_t*>(chunk + i + lane * 16);
      state = mix(state ^ words[0], words[1]);
    }
    begin += count;
  } while (begin < size);
  if (size >= 64 && lane < kWarp) {
    const uint64_t next = __shfl_down_sync(kAllLanes, state, 1);
    const uint64_t pair = mix(state, next);
    const uint64_t other = __shfl_down_sync(kAllLanes, pair, 2);
    state = mix(pair, other);
  }
  if (lane != 0) return 0;
  const unsigned char* rest = chunk + count / 64 * 64;
  int64_t left = count % 64;
  for (; left >= 16; rest += 16, left -= 16) {
    const auto* words = reinterpret_cast<const uint64_t*>(rest);
    state = mix(state ^ words[0], words[1]);
  }
  uint64_t words[2];
  tail_words(rest, left, words);
  return mix(state ^ words[0], words[1] ^ static_cast<uint64_t>(size));
}

}  // namespace lockstep::cuda
