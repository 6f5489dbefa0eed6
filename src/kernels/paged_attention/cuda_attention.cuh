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

// Whether eight elements of a head from a multiple of eight on are one aligned vector.
inline bool has_vectors(const KvPlane& plane, int64_t head_dim) {
  const int64_t strides = plane.page_stride | plane.head_stride | plane.token_stride | head_dim;
  return plane.chunk >= head_dim && strides % 8 == 0 && reinterpret_cast<uintptr_t>(plane.data) % 16 == 0;
}

}  // namespace lockstep::cuda
