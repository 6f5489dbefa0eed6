// What ops with a state per sequence share: where a sequence's rows lie, and the checks of the tensors that
// say so.
#pragma once

#include "base/status.h"
#include "base/units.h"
#include "device/thread_pool.h"
#include "tensor/tensor.h"

namespace lockstep {

// The plan's facts about sequences, as Args of recurrent ops hold them. T rows, S sequences.
struct SequenceArgs {
  const TensorView& query_start_loc;    // [S + 1] i32
  const TensorView& state_read_slot;    // [S] i32
  const TensorView& state_write_slots;  // [T] i32
  const TensorView& has_initial_state;  // [S] i32
  const LiveRows* num_rows;
  const LiveSeqs* num_seqs;
};

// Errors: kInvalidArgument for types, shapes, missing memory and counts; T from `rows`.
Status check_sequences(std::string_view op, const SequenceArgs& args, int64_t rows);

// One slot's elements lie side by side, slots at any stride.
// Errors: kInvalidArgument, "causal_conv: state [4, 8, 3] has gaps inside a slot or slots that overlap;
// expected dense slots, 24 elements or more apart".
Status check_state(std::string_view op, const TensorView& state);

// Rows [begin, end) of one sequence in this step.
struct SequenceRows {
  int64_t begin = 0;
  int64_t end = 0;
};

// *num_seqs held to [0, S]. Inlined by force, like the next: they stand in files of different instruction
// sets.
[[gnu::always_inline]] inline int64_t live_seqs(const LiveSeqs* num_seqs, int64_t seqs) {
  const int64_t live = num_seqs->get();
  return live < 0 ? 0 : live < seqs ? live : seqs;
}

[[gnu::always_inline]] inline SequenceRows rows_of(const TensorView& query_start_loc, int64_t sequence) {
  const auto* starts = static_cast<const int32_t*>(query_start_loc.data);
  return {starts[sequence], starts[sequence + 1]};
}

// Calls run(sequence, head) for every head whose first row falls into `share` of all rows of all heads, so
// that long and short sequences balance over the workers.
template <typename Run>
[[gnu::always_inline]] inline void for_own_heads(const TensorView& query_start_loc, int64_t sequences,
                                                 int64_t heads, Worker::Range share, Run&& run) {
  for (int64_t s = 0; s < sequences; ++s) {
    const SequenceRows own = rows_of(query_start_loc, s);
    const int64_t count = own.end - own.begin;
    for (int64_t h = 0; count > 0 && h < heads; ++h) {
      const int64_t first = own.begin * heads + h * count;
      if (first >= share.begin && first < share.end) run(s, h);
    }
  }
}

}  // namespace lockstep
