// The memory that one forward pass works in: allocated once for the largest step, viewed at the step's rows.
#pragma once

#include "device/arena.h"
#include "kernels/linear/linear.h"
#include "model/decoder_spec.h"

namespace lockstep {

// All f32 but for ids; [T, .] of the bucket's rows, [R, .] of its logits rows.
struct Activations {
  TensorView tokens;          // [T] i32, resolved
  TensorView cos_sin;         // [T, rotary dims]
  TensorView hidden;          // [T, E] the residual stream
  TensorView branch;          // [T, E] what the last block adds to it
  TensorView normed;          // [T, E]
  TensorView projected;       // [T, widest mixer projection]
  TensorView squares;         // [T, 2] of queries and keys, where a norm goes over all heads
  TensorView mixed;           // [T, widest mixer output]
  TensorView convolved;       // [T, C]
  TensorView gate_up;         // [T, 2 * widest dense or shared F]
  TensorView activated;       // [T, widest dense or shared F]
  TensorView router_logits;   // [T, X]
  TensorView expert_ids;      // [T, k] i32
  TensorView expert_weights;  // [T, k]
  TensorView shared_gate;     // [T, 1]
  TensorView peer_rows;       // [n * T, E] `normed` of the n replicas whose rows this rank's experts compute
  TensorView peer_ids;        // [n * T, k] i32
  TensorView peer_weights;    // [n * T, k]
  TensorView peer_sums;       // [n * T, E] what this rank's experts give to each of them
  TensorView gathered;        // [R, E]
  TensorView part_logits;     // [R, C] of this rank's rows of the vocabulary
  TensorView logits;          // [R, V]
  TensorView workspace;       // u8; scratch of collectives as well

  // The first `rows` rows and `logits_rows` logits rows of everything, dense.
  Activations at(int64_t rows, int64_t logits_rows) const;
};

struct ActivationLimits {
  int64_t rows = 0;
  int64_t logits_rows = 0;
  int64_t workspace_bytes = 0;
  int32_t tp = 1;               // ranks that share each layer
  int32_t expert_replicas = 1;  // replicas whose rows one rank's experts compute
};

// Bytes of arena for these limits, and the allocation.
int64_t activation_footprint(const DecoderSpec& spec, const ActivationLimits& limits);
Result<Activations> allocate_activations(const DecoderSpec& spec, const ActivationLimits& limits,
                                         Arena& arena);

}  // namespace lockstep
