// gated_delta over a vector type: who computes what, and in which form.
#pragma once

#include "kernels/common/live_rows.h"
#include "kernels/gated_delta/gated_delta_chunk.h"
#include "kernels/gated_delta/gated_delta_row.h"

namespace lockstep {

// Whether a sequence goes row by row: one row, or a state to be kept before its last row.
[[gnu::always_inline]] inline bool delta_by_rows(const GatedDeltaArgs& args, SequenceRows own) {
  const auto* slots = static_cast<const int32_t*>(args.state_write_slots.data);
  bool inside = own.end - own.begin == 1;
  for (int64_t t = own.begin; t + 1 < own.end; ++t) inside = inside || slots[t] >= 0;
  return inside;
}

// One value head's part of a state slot; null for slot -1.
[[gnu::always_inline]] inline float* delta_slot(const GatedDeltaArgs& args, int64_t slot,
                                                int64_t value_head) {
  if (slot < 0) return nullptr;
  return static_cast<float*>(args.state.data) + slot * args.state.stride(0) +
         value_head * args.state.dim(2) * args.state.dim(3);
}

// Row by row. Between rows the state stays where the last one was written, or in scratch.
template <typename V>
void delta_rows(const GatedDeltaArgs& args, SequenceRows own, int64_t value_head, const float* from,
                char* scratch) {
  const int64_t keys = args.q.dim(2);
  const GatedDeltaScratch at = gated_delta_scratch(keys, args.v.dim(2));
  auto* working = reinterpret_cast<float*>(scratch + at.state);
  auto* key = reinterpret_cast<float*>(scratch + at.key);
  auto* query = reinterpret_cast<float*>(scratch + at.query);
  const int64_t key_head = value_head / (args.v.dim(1) / args.q.dim(1));
  const auto root = V::div(V::set1(1.0f), V::sqrt(V::set1(static_cast<float>(keys))));
  const auto at_row = [](const TensorView& tensor, int64_t t, int64_t head) {
    return static_cast<float*>(tensor.data) + t * tensor.stride(0) + head * tensor.stride(1);
  };
  for (int64_t t = own.begin; t < own.end; ++t) {
    DeltaGates gates;
    delta_gates(args, value_head, t, 1, gates);
    l2_normalise<V>(at_row(args.k, t, key_head), keys, 1.0f, key);
    l2_normalise<V>(at_row(args.q, t, key_head), keys, V::reduce_max(root), query);
    float* to = delta_slot(args, static_cast<const int32_t*>(args.state_write_slots.data)[t], value_head);
    if (to == nullptr && t + 1 < own.end) to = working;
    delta_row<V>({.key = key,
                  .query = query,
                  .value = at_row(args.v, t, value_head),
                  .out = at_row(args.out, t, value_head),
                  .keys = keys,
                  .values = args.v.dim(2),
                  .decay = gates.decay_in[0],
                  .beta = gates.beta[0]},
                 from, to);
    from = to;
  }
}

template <typename V>
void delta_head(const GatedDeltaArgs& args, int64_t sequence, int64_t value_head, char* scratch) {
  const SequenceRows own = rows_of(args.query_start_loc, sequence);
  const bool has_state = static_cast<const int32_t*>(args.has_initial_state.data)[sequence] != 0;
  const int32_t read_slot = static_cast<const int32_t*>(args.state_read_slot.data)[sequence];
  const float* from = has_state ? delta_slot(args, read_slot, value_head) : nullptr;
  if (delta_by_rows(args, own)) {
    delta_rows<V>(args, own, value_head, from, scratch);
    return;
  }
  const int32_t write_slot = static_cast<const int32_t*>(args.state_write_slots.data)[own.end - 1];
  DeltaChunks<V> chunks(args, value_head, scratch);
  chunks.run(own.begin, own.end, from, delta_slot(args, write_slot, value_head));
}

template <typename V>
void gated_delta_body(const GatedDeltaArgs& args, Worker worker) {
  const int64_t heads = args.v.dim(1);
  const int64_t rows = args.out.dim(0);
  const int64_t live = live_rows(args.num_rows, rows);
  char* scratch = static_cast<char*>(args.workspace.data) +
                  worker.index * gated_delta_scratch(args.q.dim(2), args.v.dim(2)).bytes;
  const int64_t sequences = live_seqs(args.num_seqs, args.state_read_slot.dim(0));
  for_own_heads(args.query_start_loc, sequences, heads, worker.share(live * heads),
                [&](int64_t sequence, int64_t head) { delta_head<V>(args, sequence, head, scratch); });
  const Worker::Range pads = worker.share((rows - live) * heads);
  for (int64_t pad = pads.begin; pad < pads.end; ++pad) {
    zero_row<V>(static_cast<float*>(args.out.data) + (live + pad / heads) * args.out.stride(0) +
                    pad % heads * args.out.stride(1),
                args.out.dim(2));
  }
}

}  // namespace lockstep
