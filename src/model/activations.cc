#include "model/activations.h"

#include <algorithm>
#include <vector>

namespace lockstep {
namespace {

struct Wanted {
  TensorView Activations::*member;
  std::string_view name;
  DType dtype;
  Shape shape;
};

// Every buffer with its shape: the one list that sizes and allocates.
std::vector<Wanted> wanted(const DecoderSpec& spec, const ActivationLimits& limits) {
  const SoftmaxMixerSpec& s = spec.softmax;
  const DeltaMixerSpec& d = spec.delta;
  const int64_t rows = limits.rows;
  const LightningMixerSpec& l = spec.lightning;
  const int64_t queries = std::max(s.query_width(), l.query_width());
  const int64_t delta_projection = int64_t{d.conv_channels()} + d.value_width() + 2 * int64_t{d.value_heads};
  const int64_t projected =
      std::max({int64_t{s.projected_width()}, int64_t{l.projected_width()}, delta_projection});
  const int64_t shared =
      spec.moe.shared_width > 0 ? spec.width : 0;  // the shared expert's output, as moe_block says
  const int64_t mixed = std::max({queries, int64_t{d.value_width()}, shared});
  const int64_t mlp = std::max(spec.dense_width, spec.moe.shared_width);
  const int64_t squares = s.qk_norm == QkNorm::kAllHeads ? 2 : l.output_norm ? 1 : 0;
  const int64_t peers = limits.expert_replicas > 1 ? limits.expert_replicas * rows : 0;
  const int64_t part_rows = limits.tp > 1 ? limits.logits_rows : 0;
  using A = Activations;
  return {{&A::tokens, "tokens", DType::kI32, {rows}},
          {&A::cos_sin, "cos_sin", DType::kF32, {rows, spec.rope().dims}},
          {&A::hidden, "hidden", DType::kF32, {rows, spec.width}},
          {&A::branch, "branch", DType::kF32, {rows, spec.width}},
          {&A::normed, "normed", DType::kF32, {rows, spec.width}},
          {&A::projected, "projected", DType::kF32, {rows, projected}},
          {&A::squares, "squares", DType::kF32, {rows, squares}},
          {&A::mixed, "mixed", DType::kF32, {rows, mixed}},
          {&A::convolved, "convolved", DType::kF32, {rows, d.conv_channels()}},
          {&A::gate_up, "gate_up", DType::kF32, {rows, 2 * mlp}},
          {&A::activated, "activated", DType::kF32, {rows, mlp}},
          {&A::router_logits, "router_logits", DType::kF32, {rows, spec.moe.experts}},
          {&A::expert_ids, "expert_ids", DType::kI32, {rows, spec.moe.choices}},
          {&A::expert_weights, "expert_weights", DType::kF32, {rows, spec.moe.choices}},
          {&A::shared_gate, "shared_gate", DType::kF32, {rows, 1}},
          {&A::peer_rows, "peer_rows", DType::kF32, {peers, spec.width}},
          {&A::peer_ids, "peer_ids", DType::kI32, {peers, spec.moe.choices}},
          {&A::peer_weights, "peer_weights", DType::kF32, {peers, spec.moe.choices}},
          {&A::peer_sums, "peer_sums", DType::kF32, {peers, spec.width}},
          {&A::gathered, "gathered", DType::kF32, {limits.logits_rows, spec.width}},
          {&A::part_logits, "part_logits", DType::kF32, {part_rows, spec.vocab_rows.count}},
          {&A::logits, "logits", DType::kF32, {limits.logits_rows, spec.vocab}},
          {&A::workspace, "workspace", DType::kU8, {limits.workspace_bytes}}};
}

TensorView first_rows(const TensorView& view, int64_t rows) {
  Shape shape = view.shape;
  shape.dims[0] = rows;
  return dense_view(view.data, view.dtype, shape);
}

}  // namespace

Activations Activations::at(int64_t rows, int64_t logits_rows) const {
  Activations part = *this;
  for (TensorView Activations::*member :
       {&Activations::tokens, &Activations::cos_sin, &Activations::hidden, &Activations::branch,
        &Activations::normed, &Activations::projected, &Activations::squares, &Activations::mixed,
        &Activations::convolved, &Activations::gate_up, &Activations::activated, &Activations::router_logits,
        &Activations::expert_ids, &Activations::expert_weights, &Activations::shared_gate}) {
    part.*member = first_rows(this->*member, rows);
  }
  const int64_t replicas = hidden.dim(0) > 0 ? peer_rows.dim(0) / hidden.dim(0) : 0;
  for (TensorView Activations::*member : {&Activations::peer_rows, &Activations::peer_ids,
                                          &Activations::peer_weights, &Activations::peer_sums}) {
    part.*member = first_rows(this->*member, replicas * rows);
  }
  part.gathered = first_rows(gathered, logits_rows);
  if (part_logits.dim(0) > 0) part.part_logits = first_rows(part_logits, logits_rows);
  part.logits = first_rows(logits, logits_rows);
  return part;
}

int64_t activation_footprint(const DecoderSpec& spec, const ActivationLimits& limits) {
  int64_t bytes = 0;
  for (const Wanted& buffer : wanted(spec, limits)) bytes += Arena::footprint(buffer.dtype, buffer.shape);
  return bytes;
}

Result<Activations> allocate_activations(const DecoderSpec& spec, const ActivationLimits& limits,
                                         Arena& arena) {
  Activations activations;
  for (const Wanted& buffer : wanted(spec, limits)) {
    activations.*buffer.member = LS_TRY(arena.allocate(buffer.name, buffer.dtype, buffer.shape));
  }
  return activations;
}

}  // namespace lockstep
