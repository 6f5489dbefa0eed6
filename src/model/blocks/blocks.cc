#include "model/blocks/blocks.h"

#include <algorithm>

#include "comm/collectives.h"
#include "kernels/linear/linear.h"
#include "kernels/moe/moe.h"
#include "kernels/qk_norm_rope/qk_norm_rope.h"

namespace lockstep {

Status project(const BlockContext& context, const TensorView& x, const PackedWeight& weight,
               const TensorView& out, std::string_view stage) {
  return linear(context.on,
                {.x = x,
                 .weight = weight,
                 .out = out,
                 .workspace = context.act.workspace,
                 .num_rows = context.num_rows,
                 .input = context.input},
                stage);
}

Status sum_parts(const BlockContext& context, const TensorView& x, std::string_view stage) {
  if (context.mesh == nullptr) return {};
  return all_reduce(context.on, {.x = x, .scratch = context.act.workspace, .group = &context.mesh->tp()},
                    stage);
}

Status norm_and_rotate(const BlockContext& context, const TensorView& x, const TensorView& weight,
                       const RopeSpec& rope, std::string_view stage) {
  if (!weight && rope.dims == 0) return {};
  return qk_norm_rope(context.on,
                      {.x = x,
                       .weight = weight,
                       .cos_sin = rope.dims > 0 ? context.act.cos_sin : TensorView{},
                       .out = x,
                       .num_rows = context.num_rows,
                       .epsilon = context.spec.norm_epsilon,
                       .flavour = context.spec.norm},
                      stage);
}

int32_t expert_replicas(const Mesh* mesh) {
  return mesh != nullptr && mesh->shape().expert_parallel ? mesh->shape().dp : 1;
}

int64_t block_workspace_bytes(const DecoderSpec& spec, const ActivationLimits& limits) {
  const SoftmaxMixerSpec& s = spec.softmax;
  const int64_t rows = limits.rows;
  const int64_t widest = std::max({spec.width, s.query_width(), spec.delta.value_width(),
                                   spec.lightning.query_width(), spec.dense_width, spec.moe.shared_width});
  const int64_t products = linear_workspace_bytes(rows, widest);
  const int64_t sums = limits.tp > 1 ? all_reduce_scratch_bytes(rows, spec.width, limits.tp) : 0;
  if (spec.count(Mlp::kMoe) == 0) return std::max(products, sums);
  const int32_t replicas = limits.expert_replicas;
  const int64_t experts = moe_workspace_bytes(rows * replicas, spec.moe.choices, spec.moe.held.count,
                                              spec.width, spec.moe.expert_width);
  const int64_t back = replicas > 1 ? scatter_sum_scratch_bytes(rows, spec.width, replicas) : 0;
  return std::max({products, sums, experts, back});
}

}  // namespace lockstep
