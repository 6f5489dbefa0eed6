// How a device cuts the tokens that a row sees into parts, which blocks attend for on their own, and what a
// part leaves in the workspace: for each query head its weighted sum of values, the top score, the sum of
// weights.
#pragma once

#include <cstdint>

namespace lockstep {

inline constexpr int64_t kLeastPart = 256;  // tokens
inline constexpr int64_t kMostParts = 128;  // of a row

// Tokens of each part but the last, a power of two. It follows from the tokens alone, so that the order of a
// row's sums does; and grows with their root, so that parts are many enough to fill a device and joining them
// stays cheap.
constexpr int64_t part_tokens(int64_t tokens) {
  int64_t size = kLeastPart;
  while (size * size < 16 * tokens || size * kMostParts < tokens) size *= 2;
  return size;
}
constexpr int64_t parts_of(int64_t tokens) {
  const int64_t size = part_tokens(tokens);
  return (tokens + size - 1) / size;
}
// Parts of the rows that see at most so many tokens: those of the longest, or of the last that has smaller
// ones.
constexpr int64_t most_parts(int64_t tokens) {
  const int64_t before = part_tokens(tokens) / 32, own = parts_of(tokens);
  return own > before ? own : before < kMostParts ? before : kMostParts;
}

// Where a part has its sum's end: the top is there, the sum of weights behind it.
constexpr int64_t part_top(int64_t head_dim) { return (head_dim + 3) / 4 * 4; }
// Elements of a part of one query head.
constexpr int64_t part_floats(int64_t head_dim) { return part_top(head_dim) + 4; }
// Bytes of all parts of a row.
constexpr int64_t row_parts_bytes(int64_t heads, int64_t head_dim, int64_t parts) {
  return heads * parts * part_floats(head_dim) * static_cast<int64_t>(sizeof(float));
}

}  // namespace lockstep
