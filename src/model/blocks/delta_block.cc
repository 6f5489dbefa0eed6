#include "kernels/gated_norm/gated_norm.h"
#include "model/blocks/blocks.h"

namespace lockstep {

Status delta_block(const BlockContext& context, const DeltaWeights& weights, const RecurrentBackend& backend,
                   int32_t layer) {
  const DeltaMixerSpec& spec = context.spec.delta;
  const Activations& act = context.act;
  const int64_t rows = act.normed.dim(0);
  const int64_t channels = spec.conv_channels(), values = spec.value_width(), heads = spec.value_heads;
  const TensorView projected = dense_view(act.projected.data, DType::kF32, {rows, weights.in.n});
  LS_TRY(project(context, act.normed, weights.in, projected, "in_proj"));
  const TensorView flat = dense_view(act.mixed.data, DType::kF32, {rows, values});
  const TensorView mixed = flat.heads(0, heads, spec.value_dim, spec.value_dim);
  LS_TRY(backend.run(context.step,
                     DeltaTensors{.qkv = projected.columns(0, channels),
                                  .b = projected.columns(channels + values, heads),
                                  .a = projected.columns(channels + values + heads, heads),
                                  .conv = weights.conv,
                                  .a_log = weights.a_log,
                                  .dt_bias = weights.dt_bias,
                                  .mixed = act.convolved,
                                  .out = mixed,
                                  .workspace = act.workspace,
                                  .input = context.input},
                     layer, context.on));
  LS_TRY(gated_norm(context.on,
                    {.x = mixed,
                     .z = projected.heads(channels, heads, spec.value_dim, spec.value_dim),
                     .weight = weights.norm,
                     .out = mixed,
                     .num_rows = context.num_rows,
                     .epsilon = context.spec.norm_epsilon},
                    "gated_norm"));
  LS_TRY(project(context, flat, weights.out, act.branch, "out_proj"));
  return sum_parts(context, act.branch, "out_proj_sum");
}

}  // namespace lockstep
