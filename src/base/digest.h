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

// The word of 8 bytes at `bytes`, whatever its alignment.
inline uint64_t digest_word(const unsigned char* bytes) {
  uint64_t word = 0;
  std::memcpy(&word, bytes, sizeof(word));
  return word;
}

// The last `size` bytes, 0 to 15 of them, as two words filled up with zeros. From loads of fixed sizes that
// overlap, since most fields of a plan are a few bytes.
struct DigestTail {
  uint64_t low = 0;
  uint64_t high = 0;
};
inline DigestTail digest_tail(const unsigned char* bytes, size_t size) {
  if (size > 8) return {digest_word(bytes), digest_word(bytes + size - 8) >> (8 * (16 - size))};
  if (size == 8) return {digest_word(bytes), 0};
  if (size >= 4) {
    uint32_t first = 0, last = 0;
    std::memcpy(&first, bytes, sizeof(first));
    std::memcpy(&last, bytes + size - 4, sizeof(last));
    return {first | static_cast<uint64_t>(last) << (8 * (size - 4)), 0};
  }
  uint64_t word = 0;
  for (size_t i = 0; i < size; ++i) word |= static_cast<uint64_t>(bytes[i]) << (8 * i);
  return {word, 0};
}

// Digest of `bytes`, chained from `seed`. O(bytes). A chain takes 16 bytes per product; blocks of 64 bytes go
// through four chains side by side, since a product waits four times as long for the one before as for a free
// multiplier. One definition for every device.
inline Digest digest_bytes(const void* data, size_t size, Digest seed = 0) {
  const auto* bytes = static_cast<const unsigned char*>(data);
  uint64_t state = mix64(seed, size);
  size_t i = 0;
  if (size >= 64) {
    uint64_t a = state, b = state, c = state, d = state;
    for (; i + 64 <= size; i += 64) {
      a = mix64(a ^ digest_word(bytes + i), digest_word(bytes + i + 8));
      b = mix64(b ^ digest_word(bytes + i + 16), digest_word(bytes + i + 24));
      c = mix64(c ^ digest_word(bytes + i + 32), digest_word(bytes + i + 40));
      d = mix64(d ^ digest_word(bytes + i + 48), digest_word(bytes + i + 56));
    }
    state = mix64(mix64(a, b), mix64(c, d));
  }
  for (; i + 16 <= size; i += 16) {
    state = mix64(state ^ digest_word(bytes + i), digest_word(bytes + i + 8));
  }
  const DigestTail tail = digest_tail(bytes + i, size - i);
  return mix64(state ^ tail.low, tail.high ^ size);
}

template <typename T>
Digest digest_span(std::span<const T> values, Digest seed = 0) {
  return digest_bytes(values.data(), values.size_bytes(), seed);
}

}  // namespace lockstep
