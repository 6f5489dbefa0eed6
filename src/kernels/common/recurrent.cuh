// What the recurrent ops of the device share: their arguments as one struct, and whose rows are whose. Both
// keep a state [Dk, Dv] per head and sequence, which a row decays, adds to and reads.
#pragma once

#include "kernels/common/device_math.cuh"
#include "kernels/common/recurrent_chunks.h"

namespace lockstep::cuda {

// Head h of states and outputs reads head h / query_group of q, and so on.
struct RecurrentArgs {
  TensorView q, k, v, state;
  TensorView query_start_loc, state_read_slot, state_write_slots, has_initial_state;
  TensorView out;
  const LiveRows* num_rows;
  const LiveSeqs* num_seqs;
  int64_t query_group, key_group, value_group;
  TensorView b, a;       // of the gated delta rule, [T, heads]
  const float* a_log;    // likewise, [heads]
  const float* dt_bias;  // likewise
  const float* decay;    // of lightning attention, [heads]
  float scale;           // likewise, of queries
  bool in_chunks;        // whether matrix units take the sequences that they can
  unsigned char* scratch;
  ChunkScratch at;
};

// Fills what both ops name alike.
template <typename Args>
RecurrentArgs recurrent_args(const Args& args) {
  RecurrentArgs out{};
  out.q = args.q, out.k = args.k, out.v = args.v, out.state = args.state, out.out = args.out;
  out.query_start_loc = args.query_start_loc;
  out.state_read_slot = args.state_read_slot;
  out.state_write_slots = args.state_write_slots;
  out.has_initial_state = args.has_initial_state;
  out.num_rows = args.num_rows;
  out.num_seqs = args.num_seqs;
  out.query_group = out.key_group = out.value_group = 1;
  return out;
}

// Whether the rows of every head are vectors of 16 bytes.
inline bool has_vectors(const TensorView& rows) {
  return (rows.strides[0] | rows.strides[1] | rows.dim(2)) % 4 == 0 &&
         reinterpret_cast<uintptr_t>(rows.data) % 16 == 0;
}

// A live sequence of the step. What its place says is asked for at once, of sequences that are not live too.
struct Sequence {
  int64_t begin = 0;
  int64_t end = 0;
  int32_t read_slot = -1;  // -1: it begins from zeros
  bool live = false;

  __device__ Sequence(const RecurrentArgs& args, int64_t s) {
    if (s >= dim(args.state_read_slot, 0)) return;
    const auto* starts = static_cast<const int32_t*>(args.query_start_loc.data);
    const int32_t first = starts[s], last = starts[s + 1],
                  slot = static_cast<const int32_t*>(args.state_read_slot.data)[s],
                  has_state = static_cast<const int32_t*>(args.has_initial_state.data)[s];
    live = s < args.num_seqs->get();
    begin = first;
    end = last;
    read_slot = has_state != 0 ? slot : -1;
  }
  __device__ int64_t rows() const { return live ? end - begin : 0; }
};

__device__ inline int32_t write_slot(const RecurrentArgs& args, int64_t t) {
  return static_cast<const int32_t*>(args.state_write_slots.data)[t];
}

// Where the state of `head` lies in a slot.
__device__ inline int64_t head_offset(const RecurrentArgs& args, int64_t head) {
  return head * dim(args.state, 2) * dim(args.state, 3);
}

// Whether the chunks of matrix units take a sequence of several rows: not if it keeps a state before its
// last. The whole block asks, and all of it gets the answer.
__device__ inline bool in_chunks(const RecurrentArgs& args, const Sequence& sequence) {
  if (!args.in_chunks) return false;
  bool kept = false;
  for (int64_t t = sequence.begin + threadIdx.x; t < sequence.end - 1; t += blockDim.x)
    kept = kept || write_slot(args, t) >= 0;
  return __syncthreads_or(kept) == 0;
}

}  // namespace lockstep::cuda
