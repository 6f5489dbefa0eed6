#include <cmath>

#include "kernels/gate/gate.h"
#include "kernels/qk_norm_rope/qk_norm_rope.h"
#include "model/blocks/blocks.h"

namespace lockstep {

Status softmax_block(const BlockContext& context, const SoftmaxWeights& weights,
                     const AttentionBackend& backend, int32_t layer) {
  const SoftmaxMixerSpec& spec = context.spec.softmax;
  const Activations& act = context.act;
  const int64_t heads = spec.heads, kv_heads = spec.kv_heads, dim = spec.head_dim;
  const int64_t query_step = spec.query_step();
  const int64_t keys = heads * query_step, values = keys + kv_heads * dim;
  const TensorView projected =
      dense_view(act.projected.data, DType::kF32, {act.projected.dim(0), weights.qkv.n});
  LS_TRY(project(context, act.normed, weights.qkv, projected, "qkv_proj"));
  const TensorView q = projected.heads(0, heads, dim, query_step);
  const TensorView k = projected.heads(keys, kv_heads, dim, dim);
  QkNormRopeArgs rotate{.x = q,
                        .weight = weights.q_norm,
                        .cos_sin = act.cos_sin,
                        .out = q,
                        .num_rows = context.num_rows,
                        .epsilon = context.spec.norm_epsilon,
                        .flavour = context.spec.norm};
  LS_TRY(qk_norm_rope(context.on, rotate, "q_norm_rope"));
  rotate.x = rotate.out = k;
  rotate.weight = weights.k_norm;
  LS_TRY(qk_norm_rope(context.on, rotate, "k_norm_rope"));

  const TensorView flat = dense_view(act.mixed.data, DType::kF32, {act.mixed.dim(0), heads * dim});
  const TensorView mixed = flat.heads(0, heads, dim, dim);
  LS_TRY(backend.run(context.step, kKvGroup,
                     {.q = q,
                      .k = k,
                      .v = projected.heads(values, kv_heads, dim, dim),
                      .out = mixed,
                      .workspace = act.workspace,
                      .scale = 1.0f / std::sqrt(static_cast<float>(dim))},
                     layer, context.on));
  if (spec.output_gate != OutputGate::kNone) {
    const bool own = spec.output_gate == OutputGate::kOwnProjection;
    LS_TRY(sigmoid_gate(context.on,
                        {.x = mixed,
                         .gate = own ? projected.heads(values + kv_heads * dim, heads, dim, dim)
                                     : projected.heads(dim, heads, dim, query_step),
                         .out = mixed,
                         .num_rows = context.num_rows},
                        "output_gate"));
  }
  LS_TRY(project(context, flat, weights.out, act.branch, "o_proj"));
  return sum_parts(context, act.branch, "o_proj_sum");
}

}  // namespace lockstep
