// The kernels of lightning, one per instruction set, and what they share: how a sequence's rows are cut at
// the states that it keeps, and the layout of a thread's scratch.
#pragma once

#include "kernels/common/sequences.h"
#include "kernels/lightning/lightning.h"

namespace lockstep {

inline constexpr int64_t kLightningChunk = 64;  // rows whose q, k, v and out lie in the caches at once

// Byte offsets into one thread's part of the workspace, each on a cache line.
struct LightningScratch {
  int64_t state;  // f32 [D, E], where no slot takes the state between chunks
  int64_t key;    // f32 [D' / r][64, r]: tiles of r elements of each row, D to whole tiles
  int64_t query;  // f32 likewise, scaled
  int64_t value;  // f32 [E' / c][64, c]: panels of columns, E to whole panels
  int64_t out;    // f32 likewise
  int64_t bytes;  // of one thread
};

[[gnu::always_inline]] inline LightningScratch lightning_scratch(int64_t key_dim, int64_t value_dim) {
  const int64_t keys = (key_dim + 15) / 16 * 16;
  const int64_t values = (value_dim + 31) / 32 * 32;
  LightningScratch at{};
  at.key = 4 * keys * values;
  at.query = at.key + 4 * kLightningChunk * keys;
  at.value = at.query + 4 * kLightningChunk * keys;
  at.out = at.value + 4 * kLightningChunk * values;
  at.bytes = at.out + 4 * kLightningChunk * values;
  return at;
}

// One head's part of a state slot; null for slot -1.
[[gnu::always_inline]] inline float* lightning_slot(const LightningArgs& args, int64_t slot, int64_t head) {
  if (slot < 0) return nullptr;
  return static_cast<float*>(args.state.data) + slot * args.state.stride(0) +
         head * args.state.dim(2) * args.state.dim(3);
}

// Calls run(begin, end, from, to) for a sequence's rows, cut behind every row whose state is kept: from the
// state before (null: zeros) to where the state behind goes (null: nowhere).
template <typename Run>
[[gnu::always_inline]] inline void for_lightning_runs(const LightningArgs& args, int64_t sequence,
                                                      int64_t head, Run&& run) {
  const SequenceRows own = rows_of(args.query_start_loc, sequence);
  const auto* slots = static_cast<const int32_t*>(args.state_write_slots.data);
  const bool has_state = static_cast<const int32_t*>(args.has_initial_state.data)[sequence] != 0;
  const float* from =
      has_state ? lightning_slot(args, static_cast<const int32_t*>(args.state_read_slot.data)[sequence], head)
                : nullptr;
  int64_t begin = own.begin;
  for (int64_t t = own.begin; t < own.end; ++t) {
    if (slots[t] < 0 && t + 1 < own.end) continue;
    float* to = lightning_slot(args, slots[t], head);
    run(begin, t + 1, from, to);
    begin = t + 1;
    from = to;
  }
}

}  // namespace lockstep

namespace lockstep::reference {
void lightning(const LightningArgs& args, Worker worker);
}  // namespace lockstep::reference
namespace lockstep::avx2 {
void lightning(const LightningArgs& args, Worker worker);
}  // namespace lockstep::avx2
namespace lockstep::avx512 {
void lightning(const LightningArgs& args, Worker worker);
}  // namespace lockstep::avx512
