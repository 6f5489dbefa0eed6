// The blocks that a decoder layer is made of. Each reads `normed` (or `projected`) and writes `branch`: what
// the residual stream gains. None holds state; none knows a family, or how much of the model its rank has:
// where a result is a part of a sum it is given to the mesh, which adds up the parts.
#pragma once

#include "attention/attention_backend.h"
#include "comm/mesh.h"
#include "kernels/common/launcher.h"
#include "model/activations.h"
#include "model/decoder_spec.h"
#include "model/weights.h"

namespace lockstep {

// What every block of one step shares.
struct BlockContext {
  const DecoderSpec& spec;
  const PreparedStep& step;
  const Activations& act;  // at the step's rows
  const LiveRows* num_rows;
  MatmulInput input;
  const Launcher& on;
  Mesh* mesh = nullptr;  // null: the rank is alone
  TensorView decay{};    // [H] f32, of the lightning layers' heads
};

// out = x · weightᵀ on the step's rows, as every projection of a block.
Status project(const BlockContext& context, const TensorView& x, const PackedWeight& weight,
               const TensorView& out, std::string_view stage);

// `x` [T, E] is this rank's part of a sum over the ranks that share the layer: it becomes the sum.
Status sum_parts(const BlockContext& context, const TensorView& x, std::string_view stage);

// `x` [T, heads, D] becomes its norm per head with `weight` [D] (null: none), rotated as `rope` says. Where
// it says neither, `x` stays as it is.
Status norm_and_rotate(const BlockContext& context, const TensorView& x, const TensorView& weight,
                       const RopeSpec& rope, std::string_view stage);

// branch = o_proj( attention(norm+rope(q), norm+rope(k), v) [* sigmoid(gate)] ). `layer` counts softmax
// layers.
Status softmax_block(const BlockContext& context, const SoftmaxWeights& weights,
                     const AttentionBackend& backend, int32_t layer);

// branch = out_proj( gated_norm( delta rule( conv(q | k | v), b, a ), z ) ). `layer` counts recurrent layers.
Status delta_block(const BlockContext& context, const DeltaWeights& weights, const RecurrentBackend& backend,
                   int32_t layer);

// branch = o_proj( norm over all heads( lightning(norm+rope(q), norm+rope(k), v) ) * sigmoid(gate) ).
Status lightning_block(const BlockContext& context, const LightningWeights& weights,
                       const RecurrentBackend& backend, int32_t layer);

// branch = down( silu(gate) * up ).
Status dense_block(const BlockContext& context, const MlpWeights& weights);

// branch = sum over the chosen experts, plus sigmoid(shared gate) * shared expert.
// Where experts are parallel over replicas (dp > 1), rows travel to the experts: each rank gathers the rows
// and choices of all replicas, computes its own experts on all of them, and the sums travel back. Pads lie
// between the live rows of replicas then, and no count of live rows is given to the experts: a pad row's
// choices are -1 (MoeRows::kOfRanks).
Status moe_block(const BlockContext& context, const MoeWeights& weights);

// How many replicas' rows the experts of one rank compute.
int32_t expert_replicas(const Mesh* mesh);

// Bytes of workspace that the blocks of `spec`, a rank's shard, need at these limits.
int64_t block_workspace_bytes(const DecoderSpec& spec, const ActivationLimits& limits);

}  // namespace lockstep
