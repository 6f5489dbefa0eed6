// The kernels of gated_delta, one per instruction set, and what they share: the choice of form, the gates,
// and the layout of a thread's scratch.
#pragma once

#include "kernels/common/sequences.h"
#include "kernels/gated_delta/gated_delta.h"

namespace lockstep {

inline constexpr int64_t kDeltaChunk = 64;  // rows of one chunk

// The gates of up to one chunk of rows of one value head. G is the sum of log decays up to and including a
// row, counted from the chunk's first row.
struct DeltaGates {
  float beta[kDeltaChunk];
  float sum_high[kDeltaChunk];  // G in two parts, so that differences of large sums keep their accuracy
  float sum_low[kDeltaChunk];
  float decay_in[kDeltaChunk];   // e^G: what is left at this row of the state before the chunk
  float decay_out[kDeltaChunk];  // e^(G of the last row - G): what is left of this row after the chunk
  float decay_all;               // e^(G of the last row)
};

// Gates of rows [begin, begin + count), count in [1, 64]. In f64, and not in a file of an instruction set, so
// that all of them agree.
void delta_gates(const GatedDeltaArgs& args, int64_t value_head, int64_t begin, int64_t count,
                 DeltaGates& gates);

// Byte offsets into one thread's part of the workspace, each on a cache line. Widths are padded to whole
// vectors: Dk to 16, Dv to 32 elements.
struct GatedDeltaScratch {
  int64_t state;   // f32 [Dk', Dv'] in panels of columns, or f64 [Dk, Dv] in the oracle
  int64_t key;     // f32 [64, Dk']: normalised
  int64_t query;   // f32 [64, Dk']: normalised and scaled
  int64_t key_t;   // f32 [Dk', 64]: key transposed
  int64_t value;   // f32 [64, 32]: one panel of columns of V'
  int64_t lower;   // f32 [64, 64]: -A, strictly lower
  int64_t scores;  // f32 [64, 64]: Q Kᵀ with decays, lower
  int64_t bytes;   // of one thread
};

[[gnu::always_inline]] inline GatedDeltaScratch gated_delta_scratch(int64_t key_dim, int64_t value_dim) {
  const int64_t keys = (key_dim + 15) / 16 * 16;
  const int64_t values = (value_dim + 31) / 32 * 32;
  GatedDeltaScratch at{};
  at.key = 8 * keys * values;
  at.query = at.key + 4 * kDeltaChunk * keys;
  at.key_t = at.query + 4 * kDeltaChunk * keys;
  at.value = at.key_t + 4 * kDeltaChunk * keys;
  at.lower = at.value + 4 * kDeltaChunk * 32;
  at.scores = at.lower + 4 * kDeltaChunk * kDeltaChunk;
  at.bytes = at.scores + 4 * kDeltaChunk * kDeltaChunk;
  return at;
}

}  // namespace lockstep

namespace lockstep::reference {
void gated_delta(const GatedDeltaArgs& args, Worker worker);
}  // namespace lockstep::reference
namespace lockstep::avx2 {
void gated_delta(const GatedDeltaArgs& args, Worker worker);
}  // namespace lockstep::avx2
namespace lockstep::avx512 {
void gated_delta(const GatedDeltaArgs& args, Worker worker);
}  // namespace lockstep::avx512
