#include <cmath>

#include "kernels/all_heads_norm/all_heads_norm.h"
#include "kernels/gate/gate.h"
#include "model/blocks/blocks.h"

namespace lockstep {
namespace {

// Norms over all heads of a row, of this rank and of those that share the layer with it.
Status norm_all_heads(const BlockContext& context, const SoftmaxWeights& weights, const TensorView& q,
                      const TensorView& k) {
  const SoftmaxMixerSpec& spec = context.spec.softmax;
  const TensorView& squares = context.act.squares;
  const auto sum = [&](const TensorView& x, int64_t column, int64_t counted, std::string_view stage) {
    return head_squares(
        context.on,
        {.x = x, .out = squares.columns(column, 1), .num_rows = context.num_rows, .counted_heads = counted},
        stage);
  };
  LS_TRY(sum(q, 0, spec.heads, "q_squares"));
  LS_TRY(sum(k, 1, spec.counted_kv_heads, "k_squares"));
  LS_TRY(sum_parts(context, squares, "qk_squares_sum"));
  AllHeadsNormArgs norm{.x = q,
                        .weight = dense_view(weights.q_norm.data, DType::kF32, {q.dim(1), q.dim(2)}),
                        .squares = squares.columns(0, 1),
                        .out = q,
                        .num_rows = context.num_rows,
                        .width = int64_t{spec.normed_heads} * spec.head_dim,
                        .epsilon = context.spec.norm_epsilon,
                        .flavour = context.spec.norm};
  LS_TRY(all_heads_norm(context.on, norm, "q_norm"));
  norm.x = norm.out = k;
  norm.weight = dense_view(weights.k_norm.data, DType::kF32, {k.dim(1), k.dim(2)});
  norm.squares = squares.columns(1, 1);
  norm.width = int64_t{spec.normed_kv_heads} * spec.head_dim;
  return all_heads_norm(context.on, norm, "k_norm");
}

}  // namespace

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
  const bool all_heads = spec.qk_norm == QkNorm::kAllHeads;
  if (all_heads) LS_TRY(norm_all_heads(context, weights, q, k));
  const TensorView none{};
  LS_TRY(norm_and_rotate(context, q, all_heads ? none : weights.q_norm, spec.rope, "q_norm_rope"));
  LS_TRY(norm_and_rotate(context, k, all_heads ? none : weights.k_norm, spec.rope, "k_norm_rope"));
  const TensorView flat = dense_view(act.mixed.data, DType::kF32, {act.mixed.dim(0), heads * dim});
  const TensorView mixed = flat.heads(0, heads, dim, dim);
  LS_TRY(backend.run(context.step, kKvGroup,
                     {.q = q,
                      .k = k,
                      .v = projected.heads(values, kv_heads, dim, dim),
                      .out = mixed,
                      .workspace = act.workspace,
                      .scale = 1.0f / std::sqrt(static_cast<float>(dim)),
                      .input = context.input},
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
