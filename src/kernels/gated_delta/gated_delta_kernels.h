// The kernels of gated_delta, one per instruction set, and what they share: the choice of form and the layout
// of a thread's scratch.
#pragma once

#include "kernels/common/sequences.h"
#include "kernels/gated_delta/gated_delta.h"

namespace lockstep {

inline constexpr int64_t kDeltaChunk = 64;  // rows of one chunk

// Byte offsets into one thread's part of the workspace, each on a cache line. Widths are padded with zeros to
// whole vectors: Dk to 16, Dv to 32 elements.
struct GatedDeltaScratch {
  int64_t state;   // f32 [Dk', Dv'], or f64 [Dk, Dv] in the oracle
  int64_t key;     // f32 [64, Dk']: normalised
  int64_t query;   // f32 [64, Dk']: normalised and scaled
  int64_t key_t;   // f32 [Dk', 64]: key transposed
  int64_t value;   // f32 [64, Dv']: V' of the chunk
  int64_t lower;   // f32 [64, 64]: A, strictly lower
  int64_t scores;  // f32 [64, 64]: Q Kᵀ with decays, lower
  int64_t gates;   // f32 [6, 64]
  int64_t bytes;   // of one thread
};

[[gnu::always_inline]] inline GatedDeltaScratch gated_delta_scratch(int64_t key_dim, int64_t value_dim) {
  const int64_t keys = (key_dim + 15) / 16 * 16;
  const int64_t values = (value_dim + 31) / 32 * 32;
  GatedDeltaScratch at{};
  int64_t end = 0;
  const auto take = [&end](int64_t bytes) __attribute__((always_inline)) {
    const int64_t begin = end;
    end += (bytes + 63) / 64 * 64;
    return begin;
  };
  at.state = take(8 * keys * values);
  at.key = take(4 * kDeltaChunk * keys);
  at.query = take(4 * kDeltaChunk * keys);
  at.key_t = take(4 * kDeltaChunk * keys);
  at.value = take(4 * kDeltaChunk * values);
  at.lower = take(4 * kDeltaChunk * kDeltaChunk);
  at.scores = take(4 * kDeltaChunk * kDeltaChunk);
  at.gates = take(4 * kDeltaChunk * 6);
  at.bytes = end;
  return at;
}

}  // namespace lockstep

namespace lockstep::reference {
void gated_delta(const GatedDeltaArgs& args, Worker worker);
}  // namespace lockstep::reference
