// A 64-bit digest of bytes: equal bytes give equal digests on every rank and machine of one byte order.
// Not cryptographic; it tells apart what a plan was from what a kernel read, not a friend from an enemy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace lockstep {

using Digest = uint64_t;

__extension__ using uint128_t = unsigned __int128;

// One round of a multiply-fold hash: 128-bit product of the two words, halves folded.
constexpr uint64_t mix64(uint64_t a, uint64_t b) {
  const auto product =
      static_cast<uint128_t>(a ^ 0x9E3779B97F4A7C15u) * static_cast<uint128_t>(b ^ 0xD6E8FEB86659FD93u);
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// Digest of `bytes`, chained from `seed`. O(bytes), about 8 bytes per multiply.
inline Digest digest_bytes(const void* data, size_t size, Digest seed = 0) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  uint64_t state = mix64(seed, size);
  size_t i = 0;
  for (; i + 16 <= size; i += 16) {
    uint64_t low = 0, high = 0;
    std::memcpy(&low, bytes + i, 8);
    std::memcpy(&high, bytes + i + 8, 8);
    state = mix64(state ^ low, high);
  }
  uint64_t tail[2] = {0, 0};
  if (i < size) std::memcpy(tail, bytes + i, size - i);
  return mix64(state ^ tail[0], tail[1] ^ size);
}

template <typename T>
Digest digest_span(std::span<const T> values, Digest seed = 0) {
  return digest_bytes(values.data(), values.size_bytes(), seed);
}

}  // namespace lockstep
