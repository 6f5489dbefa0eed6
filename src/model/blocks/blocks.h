// The blocks that a decoder layer is made of. Each reads `normed` (or `projected`) and writes `branch`: what
// the residual stream gains. None holds state; none knows a family.
#pragma once

#include "attention/attention_backend.h"
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
};

// out = x · weightᵀ on the step's rows, as every projection of a block.
Status project(const BlockContext& context, const TensorView& x, const PackedWeight& weight,
               const TensorView& out, std::string_view stage);

// branch = o_proj( attention(norm+rope(q), norm+rope(k), v) [* sigmoid(gate)] ). `layer` counts softmax
// layers.
Status softmax_block(const BlockContext& context, const SoftmaxWeights& weights,
                     const AttentionBackend& backend, int32_t layer);

// branch = out_proj( gated_norm( delta rule( conv(q | k | v), b, a ), z ) ). `layer` counts delta layers.
Status delta_block(const BlockContext& context, const DeltaWeights& weights, const RecurrentBackend& backend,
                   int32_t layer);

// branch = down( silu(gate) * up ).
Status dense_block(const BlockContext& context, const MlpWeights& weights);

// branch = sum over the chosen experts, plus sigmoid(shared gate) * shared expert.
Status moe_block(const BlockContext& context, const MoeWeights& weights);

// Bytes of workspace that the blocks of `spec` need for `rows` rows.
int64_t block_workspace_bytes(const DecoderSpec& spec, int64_t rows);

}  // namespace lockstep
