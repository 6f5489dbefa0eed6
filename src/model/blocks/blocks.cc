#include "model/blocks/blocks.h"

#include <algorithm>

#include "kernels/linear/linear.h"
#include "kernels/moe/moe.h"

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
