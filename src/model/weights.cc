#include "model/weights.h"

namespace lockstep {
namespace {

// Adds weights to a plan under one layer's prefix.
class WeightList {
 public:
  WeightList(const DecoderSpec& spec, DType dtype, WeightPlan& plan)
      : spec_(spec), dtype_(dtype), plan_(plan) {}

  void tensor(TensorView& into, const std::string& name, const Shape& shape, WeightFill fill,
              std::string part) {
    plan_.tensors.push_back(
        {.into = &into, .name = name, .shape = shape, .fill = fill, .part = std::move(part)});
  }
  void norm(TensorView& into, const std::string& name, int64_t width) {
    const bool plain = spec_.norm == NormFlavour::kPlain;
    tensor(into, name, {width}, plain ? WeightFill::kNormPlain : WeightFill::kNormZeroCentred, "norms");
  }
  MatrixTarget& matrix(PackedWeight& into, std::string name, int64_t inputs, std::vector<WeightPart> parts,
                       std::string part) {
    plan_.matrices.push_back({.into = &into,
                              .name = std::move(name),
                              .k = inputs,
                              .dtype = dtype_,
                              .parts = std::move(parts),
                              .part = std::move(part)});
    return plan_.matrices.back();
  }
  void softmax(const std::string& layer, SoftmaxWeights& into);
  void delta(const std::string& layer, DeltaWeights& into);
  void mlp(const std::string& prefix, int64_t width, MlpWeights& into, const std::string& part);
  void moe(const std::string& prefix, MoeWeights& into);

 private:
  const DecoderSpec& spec_;
  DType dtype_;
  WeightPlan& plan_;
};

void WeightList::softmax(const std::string& layer, SoftmaxWeights& into) {
  const SoftmaxMixerSpec& s = spec_.softmax;
  const std::string p = layer + "self_attn.";
  const int64_t queries = int64_t{s.heads} * s.head_dim;
  const int64_t keys = int64_t{s.kv_heads} * s.head_dim;
  matrix(into.qkv, p + "qkv_proj", spec_.width,
         {{.name = p + "q_proj.weight", .rows = queries * (s.output_gate ? 2 : 1)},
          {.name = p + "k_proj.weight", .rows = keys},
          {.name = p + "v_proj.weight", .rows = keys}},
         "attention");
  matrix(into.out, p + "o_proj", queries, {{.name = p + "o_proj.weight", .rows = spec_.width}}, "attention");
  if (!s.qk_norm) return;
  norm(into.q_norm, p + "q_norm.weight", s.head_dim);
  norm(into.k_norm, p + "k_norm.weight", s.head_dim);
}

// Rows of a projection whose rows are grouped by key head, each group [parts[0] | parts[1] | ...]: picks part
// `which` of all groups.
std::vector<RowRun> grouped_rows(int64_t groups, const std::vector<int64_t>& parts, size_t which) {
  int64_t group_rows = 0, before = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    group_rows += parts[i];
    if (i < which) before += parts[i];
  }
  std::vector<RowRun> runs;
  for (int64_t g = 0; g < groups; ++g)
    runs.push_back({.begin = g * group_rows + before, .count = parts[which]});
  return runs;
}

void WeightList::delta(const std::string& layer, DeltaWeights& into) {
  const DeltaMixerSpec& d = spec_.delta;
  const std::string p = layer + "linear_attn.";
  const int64_t values = d.value_width();
  const int64_t per_group = d.value_heads / d.key_heads;
  std::vector<WeightPart> parts;
  if (spec_.naming.grouped_delta_projections) {
    const std::vector<int64_t> qkvz = {d.key_dim, d.key_dim, per_group * d.value_dim,
                                       per_group * d.value_dim};
    const std::vector<int64_t> ba = {per_group, per_group};
    for (size_t i = 0; i < qkvz.size(); ++i) {
      parts.push_back({.name = p + "in_proj_qkvz.weight",
                       .rows = 2 * d.key_width() + 2 * values,
                       .order = grouped_rows(d.key_heads, qkvz, i)});
    }
    for (size_t i = 0; i < ba.size(); ++i) {
      parts.push_back({.name = p + "in_proj_ba.weight",
                       .rows = 2 * d.value_heads,
                       .order = grouped_rows(d.key_heads, ba, i)});
    }
  } else {
    parts = {{.name = p + "in_proj_qkv.weight", .rows = d.conv_channels()},
             {.name = p + "in_proj_z.weight", .rows = values},
             {.name = p + "in_proj_b.weight", .rows = d.value_heads},
             {.name = p + "in_proj_a.weight", .rows = d.value_heads}};
  }
  matrix(into.in, p + "in_proj", spec_.width, std::move(parts), "delta");
  matrix(into.out, p + "out_proj", values, {{.name = p + "out_proj.weight", .rows = spec_.width}}, "delta");
  tensor(into.conv, p + "conv1d.weight", {d.conv_channels(), d.conv_width}, WeightFill::kMatrix, "delta");
  plan_.tensors.back().stored = {d.conv_channels(), 1, d.conv_width};
  tensor(into.a_log, p + "A_log", {d.value_heads}, WeightFill::kDecayLog, "delta");
  tensor(into.dt_bias, p + "dt_bias", {d.value_heads}, WeightFill::kTimeStepBias, "delta");
  tensor(into.norm, p + "norm.weight", {d.value_dim}, WeightFill::kNormPlain, "norms");
}

void WeightList::mlp(const std::string& prefix, int64_t width, MlpWeights& into, const std::string& part) {
  matrix(into.gate_up, prefix + "gate_up_proj", spec_.width,
         {{.name = prefix + "gate_proj.weight", .rows = width},
          {.name = prefix + "up_proj.weight", .rows = width}},
         part);
  matrix(into.down, prefix + "down_proj", width, {{.name = prefix + "down_proj.weight", .rows = spec_.width}},
         part);
}

void WeightList::moe(const std::string& prefix, MoeWeights& into) {
  const MoeSpec& m = spec_.moe;
  matrix(into.router, prefix + "gate", spec_.width, {{.name = prefix + "gate.weight", .rows = m.experts}},
         "router");
  const std::string e = prefix + "experts.";
  MatrixTarget& gate_up = matrix(into.experts.gate_up, e + "gate_up_proj", spec_.width,
                                 {{.name = e + "{}.gate_proj.weight", .rows = m.expert_width},
                                  {.name = e + "{}.up_proj.weight", .rows = m.expert_width}},
                                 "experts");
  gate_up.experts = m.experts;
  gate_up.otherwise = {{.name = e + "gate_up_proj", .rows = 2 * int64_t{m.expert_width}}};
  MatrixTarget& down = matrix(into.experts.down, e + "down_proj", m.expert_width,
                              {{.name = e + "{}.down_proj.weight", .rows = spec_.width}}, "experts");
  down.experts = m.experts;
  down.otherwise = {{.name = e + "down_proj", .rows = spec_.width}};
  if (m.shared_width == 0) return;
  mlp(prefix + "shared_expert.", m.shared_width, into.shared, "shared expert");
  matrix(into.shared_gate, prefix + "shared_expert_gate", spec_.width,
         {{.name = prefix + "shared_expert_gate.weight", .rows = 1}}, "shared expert");
}

}  // namespace

WeightPlan list_weights(const DecoderSpec& spec, DType dtype, DecoderWeights& weights) {
  WeightPlan plan;
  plan.family = spec.family;
  const std::string& prefix = spec.naming.prefix;
  WeightList list(spec, dtype, plan);
  const std::string embed = prefix + "embed_tokens";
  list.matrix(weights.embedding, embed, spec.width, {{.name = embed + ".weight", .rows = spec.vocab}},
              "embedding");
  // A tied embedding is also the head, so it is packed for products; otherwise rows are only looked up.
  if (!spec.tied_head) {
    plan.matrices.back().layout = WeightLayout::kRowMajor;
    list.matrix(weights.head, "lm_head", spec.width, {{.name = "lm_head.weight", .rows = spec.vocab}},
                "head");
  }
  list.norm(weights.final_norm, prefix + "norm.weight", spec.width);
  weights.layers.resize(spec.layers.size());
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const std::string layer = concat(prefix, "layers.", i, ".");
    LayerWeights& into = weights.layers[i];
    list.norm(into.input_norm, layer + "input_layernorm.weight", spec.width);
    list.norm(into.post_norm, layer + "post_attention_layernorm.weight", spec.width);
    if (spec.layers[i].mixer == Mixer::kSoftmax) {
      list.softmax(layer, into.softmax);
    } else {
      list.delta(layer, into.delta);
    }
    if (spec.layers[i].mlp == Mlp::kDense) {
      list.mlp(layer + "mlp.", spec.dense_width, into.dense, "mlp");
    } else {
      list.moe(layer + "mlp.", into.moe);
    }
  }
  const bool tied = spec.tied_head;
  plan.may_ignore = [tied](std::string_view name) {
    return name.starts_with("mtp.") || (tied && name == "lm_head.weight") ||
           name.ends_with(".rotary_emb.inv_freq");
  };
  return plan;
}

}  // namespace lockstep
