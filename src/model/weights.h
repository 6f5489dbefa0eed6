// The weights of a decoder, or of a rank's shard of it, as its blocks read them, and the list by which a
// checkpoint is loaded into them.
#pragma once

#include <vector>

#include "kernels/linear/packed_weight.h"
#include "model/decoder_spec.h"
#include "model/shard.h"
#include "tensor/tensor.h"
#include "weights/weight_loader.h"

namespace lockstep {

struct SoftmaxWeights {
  PackedWeight qkv;   // [projected_width(), E]: queries (each with its gate), keys, values, an own gate
  PackedWeight out;   // [E, H * D]
  TensorView q_norm;  // [D], or [H * D] of an all-heads norm
  TensorView k_norm;  // [D], or [K * D]
};

struct DeltaWeights {
  PackedWeight in;     // [q | k | v | z | b | a, E], heads ascending in each
  PackedWeight out;    // [E, Hv * Dv]
  TensorView conv;     // [C, W]
  TensorView a_log;    // [Hv]
  TensorView dt_bias;  // [Hv]
  TensorView norm;     // [Dv]
};

struct LightningWeights {
  PackedWeight in;    // [q | k | v | gate, E]
  PackedWeight out;   // [E, H * D]
  TensorView q_norm;  // [D]; null without
  TensorView k_norm;  // [D]
  TensorView norm;    // [H * D]; null without
};

struct MlpWeights {
  PackedWeight gate_up;  // [2F, E]
  PackedWeight down;     // [E, F]
};

struct MoeWeights {
  PackedWeight router;       // [X, E]
  TensorView bias;           // [X] added to scores for choosing; null without
  MlpWeights experts;        // [X][2F, E], [X][E, F]
  MlpWeights shared;         // null without a shared expert
  PackedWeight shared_gate;  // [1, E]
};

struct LayerWeights {
  TensorView input_norm;  // [E]
  TensorView post_norm;   // [E]
  SoftmaxWeights softmax;
  DeltaWeights delta;
  LightningWeights lightning;
  MlpWeights dense;
  MoeWeights moe;
};

struct DecoderWeights {
  PackedWeight embedding;  // [V, E]
  PackedWeight head;       // [V, E]; null when tied: read `embedding`
  TensorView final_norm;   // [E]
  std::vector<LayerWeights> layers;
};

// Takes from a checkpoint's header what a family cannot know of its names: which of the prefixes
// "model.language_model.", "language_model.model." and "model." it has, where its router and experts lie, and
// how an expert spells its matrices. What the header does not show stays as it is.
void adopt_names(const Checkpoint& checkpoint, WeightNaming& naming);

// And what a config does not say: softmax layers have norms on their heads where the checkpoint has them.
// Only for families with lightning layers, whose releases differ in this.
void adopt_norms(const Checkpoint& checkpoint, DecoderSpec& spec);

// Lists every weight of `whole`, to be loaded into `weights` as matrices of `dtype`: of each the rows,
// columns and experts that the shard at `place` has. `weights` must stay where it is until they are loaded.
// Precondition: shard(whole, place) is ok.
WeightPlan list_weights(const DecoderSpec& whole, const ShardSpec& place, DType dtype,
                        DecoderWeights& weights);
inline WeightPlan list_weights(const DecoderSpec& whole, DType dtype, DecoderWeights& weights) {
  return list_weights(whole, {}, dtype, weights);
}

}  // namespace lockstep
