// How inputs enter a tile: rounded or copied once per call, interleaved in blocks (see tile.h).
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/linear/linear.h"
#include "kernels/linear/tile.h"

namespace lockstep {

// Words that one row of inputs takes.
template <typename Core>
int64_t input_words(int64_t lines) {
  return lines * Core::kSteps;
}

// Lines of one panel of a weight with k inputs.
[[gnu::always_inline]] inline int64_t panel_lines(const PackedWeight& weight) {
  return weight.dtype == DType::kF32 ? weight.k : (weight.k + 1) / 2;
}

// The bits of x as bf16, rounded to nearest even; NaN stays a quiet NaN.
[[gnu::always_inline]] inline uint32_t bf16_bits(float x) {
  uint32_t word = 0;
  std::memcpy(&word, &x, sizeof(word));
  const uint32_t rounded = (word + 0x7FFFu + ((word >> 16) & 1u)) >> 16;
  return (word & 0x7FFFFFFFu) > 0x7F800000u ? (word >> 16) | 0x0040u : rounded;
}

[[gnu::always_inline]] inline uint32_t f32_word(float x, bool round) {
  uint32_t word = 0;
  std::memcpy(&word, &x, sizeof(word));
  return round ? bf16_bits(x) << 16 : word;
}

// Writes `count` words from x on, of which `valid` inputs exist; the rest count as zero.
template <typename Core>
void fill_words(const float* x, int64_t valid, int64_t count, bool round, uint32_t* words) {
  if constexpr (Core::kPairs) {
    const int64_t full = valid / 2;
    for (int64_t i = 0; i < full; ++i) words[i] = bf16_bits(x[2 * i]) | bf16_bits(x[2 * i + 1]) << 16;
    for (int64_t i = full; i < count; ++i) words[i] = 2 * i < valid ? bf16_bits(x[2 * i]) : 0;
  } else {
    for (int64_t i = 0; i < valid; ++i) words[i] = f32_word(x[i], round);
    for (int64_t i = valid; i < count; ++i) words[i] = 0;
  }
}

// Words of a row that are prepared together: 4 cache lines.
inline constexpr int64_t kChunkWords = 64;

// Interleaves `count` <= kChunkWords words of one row into a block of `stride` rows: word i goes to
// out[i * stride]. As fill_words, of x's elements `valid` exist.
template <typename Core>
void scatter_words(const float* x, int64_t valid, int64_t count, bool round, uint32_t* out, int64_t stride) {
  if (stride == 1) return fill_words<Core>(x, valid, count, round, out);
  uint32_t chunk[kChunkWords];
  fill_words<Core>(x, valid, count, round, chunk);
  for (int64_t i = 0; i < count; ++i) out[i * stride] = chunk[i];
}

// A stretch of k of one block: words [begin, begin + count) of each row.
struct Chunk {
  int64_t begin = 0;
  int64_t count = 0;
};

[[gnu::always_inline]] inline int64_t chunks_of(int64_t words) {
  return (words + kChunkWords - 1) / kChunkWords;
}

[[gnu::always_inline]] inline Chunk chunk_at(int64_t chunk, int64_t words) {
  const int64_t begin = chunk * kChunkWords;
  return {begin, words - begin < kChunkWords ? words - begin : kChunkWords};
}

// One row's part of a chunk; `out` is word 0 of the row in its block.
template <typename Core>
void prepare_chunk(const float* x, int64_t k, bool round, Chunk chunk, uint32_t* out, int64_t stride) {
  constexpr int64_t kInputs = Core::kPairs ? 2 : 1;
  const int64_t left = k - chunk.begin * kInputs;
  const int64_t valid = left < 0 ? 0 : left < chunk.count * kInputs ? left : chunk.count * kInputs;
  scatter_words<Core>(x + chunk.begin * kInputs, valid, chunk.count, round, out + chunk.begin * stride,
                      stride);
}

}  // namespace lockstep
