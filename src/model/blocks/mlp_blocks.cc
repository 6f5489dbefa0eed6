#include "comm/collectives.h"
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
  LS_TRY(project(context, act.normed, weights.gate_up, gate_up, stages.gate_up));
  LS_TRY(swiglu(context.on, {.gate_up = gate_up, .out = activated, .num_rows = context.num_rows},
                stages.activate));
  return project(context, activated, weights.down, out, stages.down);
}

Status shared_expert(const BlockContext& context, const MoeWeights& weights) {
  const Activations& act = context.act;
  LS_TRY(project(context, act.normed, weights.shared_gate, act.shared_gate, "shared_gate"));
  // The mixer's output is spent by now: its buffer takes the shared expert's.
  const TensorView out = dense_view(act.mixed.data, DType::kF32, {act.normed.dim(0), context.spec.width});
  LS_TRY(swiglu_mlp(context, weights.shared, out, {"shared_gate_up", "shared_swiglu", "shared_down"}));
  return gated_add(context.on,
                   {.y = out, .gate = act.shared_gate, .out = act.branch, .num_rows = context.num_rows},
                   "shared_add");
}

// What the experts of this rank, or the parts of experts that it has, add to `branch`.
Status routed_experts(const BlockContext& context, const MoeWeights& weights) {
  const Activations& act = context.act;
  MoeExpertsArgs args{.x = act.normed,
                      .gate_up = weights.experts.gate_up,
                      .down = weights.experts.down,
                      .expert_ids = act.expert_ids,
                      .expert_weights = act.expert_weights,
                      .out = act.branch,
                      .workspace = act.workspace,
                      .num_rows = context.num_rows,
                      .first_expert = context.spec.moe.held.first,
                      .experts = context.spec.moe.experts,
                      .input = context.input};
  if (expert_replicas(context.mesh) == 1) return moe_experts(context.on, args, "experts");
  Communicator* replicas = &context.mesh->dp();
  const auto gather = [&](TensorView& x, const TensorView& out, std::string_view stage) {
    const GatherRowsOfRanksArgs rows{.x = x, .out = out, .group = replicas};
    x = out;
    return gather_rows_of_ranks(context.on, rows, stage);
  };
  LS_TRY(gather(args.x, act.peer_rows, "gather_rows"));
  LS_TRY(gather(args.expert_ids, act.peer_ids, "gather_ids"));
  LS_TRY(gather(args.expert_weights, act.peer_weights, "gather_weights"));
  args.out = act.peer_sums;
  args.num_rows = nullptr;
  args.rows = MoeRows::kOfRanks;
  LS_TRY(moe_experts(context.on, args, "experts"));
  return scatter_sum(context.on,
                     {.x = act.peer_sums, .out = act.branch, .scratch = act.workspace, .group = replicas},
                     "experts_sum");
}

}  // namespace

Status dense_block(const BlockContext& context, const MlpWeights& weights) {
  LS_TRY(swiglu_mlp(context, weights, context.act.branch, {"gate_up", "swiglu", "down"}));
  return sum_parts(context, context.act.branch, "down_sum");
}

Status moe_block(const BlockContext& context, const MoeWeights& weights) {
  const Activations& act = context.act;
  LS_TRY(project(context, act.normed, weights.router, act.router_logits, "router"));
  LS_TRY(moe_route(context.on,
                   {.logits = act.router_logits,
                    .bias = weights.bias,
                    .expert_ids = act.expert_ids,
                    .expert_weights = act.expert_weights,
                    .num_rows = context.num_rows,
                    .scoring = context.spec.moe.scoring,
                    .normalise = context.spec.moe.normalise},
                   "route"));
  LS_TRY(routed_experts(context, weights));
  if (weights.shared.gate_up) LS_TRY(shared_expert(context, weights));
  // One sum for both: a rank's experts and its part of the shared expert.
  return sum_parts(context, act.branch, "moe_sum");
}

}  // namespace lockstep
