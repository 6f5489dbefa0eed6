#include <algorithm>

#include "kernels/gate/gate.h"
#include "kernels/moe/moe.h"
#include "kernels/swiglu/swiglu.h"
#include "model/blocks/blocks.h"

namespace lockstep {
namespace {

struct MlpStages {
  std::string_view gate_up;
  std::string_view activate;
  std::string_view down;
};

// out = down( silu(gate) * up ) of act.normed.
Status swiglu_mlp(const BlockContext& context, const MlpWeights& weights, const TensorView& out,
                  const MlpStages& stages) {
  const Activations& act = context.act;
  const int64_t rows = act.normed.dim(0);
  const TensorView gate_up = dense_view(act.gate_up.data, DType::kF32, {rows, weights.gate_up.n});
  const TensorView activated = dense_view(act.activated.data, DType::kF32, {rows, weights.down.k});
  LinearArgs args{.x = act.normed,
                  .weight = weights.gate_up,
                  .out = gate_up,
                  .workspace = act.workspace,
                  .num_rows = context.num_rows,
                  .input = context.input};
  LS_TRY(linear(context.on, args, stages.gate_up));
  LS_TRY(swiglu(context.on, {.gate_up = gate_up, .out = activated, .num_rows = context.num_rows},
                stages.activate));
  args.x = activated;
  args.weight = weights.down;
  args.out = out;
  return linear(context.on, args, stages.down);
}

Status shared_expert(const BlockContext& context, const MoeWeights& weights) {
  const Activations& act = context.act;
  LS_TRY(linear(context.on,
                {.x = act.normed,
                 .weight = weights.shared_gate,
                 .out = act.shared_gate,
                 .workspace = act.workspace,
                 .num_rows = context.num_rows,
                 .input = context.input},
                "shared_gate"));
  // The mixer's output is spent by now: its buffer takes the shared expert's.
  const TensorView out = dense_view(act.mixed.data, DType::kF32, {act.normed.dim(0), context.spec.width});
  LS_TRY(swiglu_mlp(context, weights.shared, out, {"shared_gate_up", "shared_swiglu", "shared_down"}));
  return gated_add(context.on,
                   {.y = out, .gate = act.shared_gate, .out = act.branch, .num_rows = context.num_rows},
                   "shared_add");
}

}  // namespace

Status dense_block(const BlockContext& context, const MlpWeights& weights) {
  return swiglu_mlp(context, weights, context.act.branch, {"gate_up", "swiglu", "down"});
}

Status moe_block(const BlockContext& context, const MoeWeights& weights) {
  const Activations& act = context.act;
  LS_TRY(linear(context.on,
                {.x = act.normed,
                 .weight = weights.router,
                 .out = act.router_logits,
                 .workspace = act.workspace,
                 .num_rows = context.num_rows,
                 .input = context.input},
                "router"));
  LS_TRY(moe_route(context.on,
                   {.logits = act.router_logits,
                    .expert_ids = act.expert_ids,
                    .expert_weights = act.expert_weights,
                    .num_rows = context.num_rows,
                    .normalise = context.spec.moe.normalise},
                   "route"));
  LS_TRY(moe_experts(context.on,
                     {.x = act.normed,
                      .gate_up = weights.experts.gate_up,
                      .down = weights.experts.down,
                      .expert_ids = act.expert_ids,
                      .expert_weights = act.expert_weights,
                      .out = act.branch,
                      .workspace = act.workspace,
                      .num_rows = context.num_rows,
                      .input = context.input},
                     "experts"));
  return weights.shared.gate_up ? shared_expert(context, weights) : Status{};
}

int64_t block_workspace_bytes(const DecoderSpec& spec, int64_t rows) {
  const SoftmaxMixerSpec& s = spec.softmax;
  const int64_t widest = std::max(
      {spec.width, s.heads * s.head_dim, spec.delta.value_width(), spec.dense_width, spec.moe.shared_width});
  const int64_t products = linear_workspace_bytes(rows, widest);
  if (spec.count(Mlp::kMoe) == 0) return products;
  return std::max(products, moe_workspace_bytes(rows, spec.moe.choices, spec.moe.experts, spec.width,
                                                spec.moe.expert_width));
}

}  // namespace lockstep
