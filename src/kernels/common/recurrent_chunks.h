// What chunks of recurrent ops hand from one kernel of a device to the next: where it lies in their
// workspace.
#pragma once

#include <cstdint>

namespace lockstep {

inline constexpr int64_t kRecurrentChunk = 64;  // rows

struct ChunkShape {
  int64_t rows = 0;
  int64_t query_heads = 0;
  int64_t key_heads = 0;
  int64_t heads = 0;  // of states and outputs
  int64_t key_dim = 0;
};

// Byte offsets. Row t of a chunk stands where row t of the step does.
struct ChunkScratch {
  int64_t gates;    // f32 [T, heads, 4]: beta, and what is left of the state before the chunk at this row,
                    // and of this row behind the chunk
  int64_t query;    // bf16 [T, query heads, Dk]: scaled, and normalised where the op does
  int64_t key;      // bf16 [T, key heads, Dk]: likewise
  int64_t weights;  // bf16 [T, heads, 64]: of the chunk's rows in this row's output
  int64_t solved;   // bf16 [T, heads, 64]: (I + A)^-1 - I, of ops that correct their state
  int64_t bytes;
};

// Where nothing is corrected, `solved` stays unused. Each part begins at a multiple of 256 bytes.
constexpr ChunkScratch chunk_scratch(const ChunkShape& shape) {
  const auto aligned = [](int64_t bytes) { return (bytes + 255) / 256 * 256; };
  ChunkScratch at{};
  at.query = aligned(shape.rows * shape.heads * 16);
  at.key = at.query + aligned(shape.rows * shape.query_heads * shape.key_dim * 2);
  at.weights = at.key + aligned(shape.rows * shape.key_heads * shape.key_dim * 2);
  at.solved = at.weights + aligned(shape.rows * shape.heads * kRecurrentChunk * 2);
  at.bytes = at.solved + aligned(shape.rows * shape.heads * kRecurrentChunk * 2);
  return at;
}

}  // namespace lockstep
