#include "kernels/all_heads_norm/all_heads_norm.h"
#include "kernels/gate/gate.h"
#include "kernels/rms_norm/rms_norm.h"
#include "model/blocks/blocks.h"

namespace lockstep {
namespace {

// The norm over all heads of the model: of those on this rank, and of those on the ranks that share the
// layer.
Status output_norm(const BlockContext& context, const TensorView& weight, const TensorView& mixed) {
  const LightningMixerSpec& spec = context.spec.lightning;
  const TensorView squares = context.act.squares.columns(0, 1);
  LS_TRY(head_squares(context.on,
                      {.x = mixed, .out = squares, .num_rows = context.num_rows, .counted_heads = spec.heads},
                      "o_squares"));
  LS_TRY(sum_parts(context, squares, "o_squares_sum"));
  return all_heads_norm(context.on,
                        {.x = mixed,
                         .weight = dense_view(weight.data, DType::kF32, {spec.heads, spec.head_dim}),
                         .squares = squares,
                         .out = mixed,
                         .num_rows = context.num_rows,
                         .width = int64_t{spec.model_heads} * spec.head_dim,
                         .epsilon = context.spec.norm_epsilon,
                         .flavour = context.spec.norm},
                        "o_norm");
}

}  // namespace

Status lightning_block(const BlockContext& context, const LightningWeights& weights,
                       const RecurrentBackend& backend, int32_t layer) {
  const LightningMixerSpec& spec = context.spec.lightning;
  const Activations& act = context.act;
  const int64_t heads = spec.heads, kv_heads = spec.kv_heads, dim = spec.head_dim;
  const int64_t keys = spec.query_width(), values = keys + spec.key_width(),
                gates = values + spec.key_width();
  const TensorView projected =
      dense_view(act.projected.data, DType::kF32, {act.projected.dim(0), weights.in.n});
  LS_TRY(project(context, act.normed, weights.in, projected, "in_proj"));
  const TensorView q = projected.heads(0, heads, dim, dim), k = projected.heads(keys, kv_heads, dim, dim);
  LS_TRY(norm_and_rotate(context, q, weights.q_norm, spec.rope, "q_norm_rope"));
  LS_TRY(norm_and_rotate(context, k, weights.k_norm, spec.rope, "k_norm_rope"));
  const TensorView flat = dense_view(act.mixed.data, DType::kF32, {act.mixed.dim(0), heads * dim});
  const TensorView mixed = flat.heads(0, heads, dim, dim);
  LS_TRY(backend.run(context.step,
                     LightningTensors{.q = q,
                                      .k = k,
                                      .v = projected.heads(values, kv_heads, dim, dim),
                                      .decay = context.decay,
                                      .out = mixed,
                                      .workspace = act.workspace,
                                      .scale = spec.scale,
                                      .input = context.input},
                     layer, context.on));
  if (spec.output_norm) LS_TRY(output_norm(context, weights.norm, mixed));
  if (spec.output_gate != OutputGate::kNone) {
    LS_TRY(sigmoid_gate(context.on,
                        {.x = mixed,
                         .gate = projected.heads(gates, heads, dim, dim),
                         .out = mixed,
                         .num_rows = context.num_rows},
                        "output_gate"));
  }
  LS_TRY(project(context, flat, weights.out, act.branch, "out_proj"));
  return sum_parts(context, act.branch, "out_proj_sum");
}

}  // namespace lockstep
