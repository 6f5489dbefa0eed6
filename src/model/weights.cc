#include "model/weights.h"

#include <algorithm>

#include "base/math.h"

namespace lockstep {
namespace {

// Runs of a source of `rows` rows as an order: adjacent runs joined, and nothing where they are all of it.
std::vector<RowRun> order_of(int64_t rows, const std::vector<RowRun>& runs) {
  std::vector<RowRun> order;
  for (const RowRun& run : runs) {
    const bool follows = !order.empty() && order.back().begin + order.back().count == run.begin;
    if (follows && run.begin != kZeroRows) {
      order.back().count += run.count;
    } else if (run.count > 0) {
      order.push_back(run);
    }
  }
  if (order.size() == 1 && order[0].begin == 0 && order[0].count == rows) return {};
  return order;
}

WeightPart cut_rows(std::string name, int64_t rows, const std::vector<RowRun>& runs) {
  return {.name = std::move(name), .rows = rows, .order = order_of(rows, runs)};
}

// The run behind a run of as many rows of the next of several stacked matrices.
RowRun behind(const RowRun& run, int64_t rows) { return {.begin = run.begin + rows, .count = run.count}; }

// Adds a shard's weights to a plan under one layer's prefix.
class WeightList {
 public:
  WeightList(const DecoderSpec& whole, const ShardSpec& place, DType dtype, WeightPlan& plan)
      : spec_(whole), place_(place), dtype_(dtype), plan_(plan) {}

  // This rank's rows of `whole` that tensor-parallel ranks share.
  RowRun share(int64_t whole) const {
    return {.begin = whole / place_.tp * place_.tp_rank, .count = whole / place_.tp};
  }
  void tensor(TensorView& into, const std::string& name, const Shape& shape, WeightFill fill,
              std::string part) {
    plan_.tensors.push_back(
        {.into = &into, .name = name, .shape = shape, .fill = fill, .part = std::move(part)});
  }
  void norm(TensorView& into, const std::string& name, int64_t width) {
    const bool plain = spec_.norm == NormFlavour::kPlain;
    tensor(into, name, {width}, plain ? WeightFill::kNormPlain : WeightFill::kNormZeroCentred, "norms");
  }
  // Of a norm over `width` elements, those that this rank's heads have.
  void norm_share(TensorView& into, const std::string& name, int64_t width, const RowRun& taken) {
    norm(into, name, taken.count);
    plan_.tensors.back().stored = {width};
    plan_.tensors.back().order = order_of(width, {taken});
  }
  // A matrix of the columns `taken` of `inputs`: what it gives is a part of a sum over the ranks.
  MatrixTarget& partial(PackedWeight& into, std::string name, int64_t inputs, const RowRun& taken,
                        std::vector<WeightPart> parts, std::string part) {
    MatrixTarget& target = matrix(into, std::move(name), taken.count, std::move(parts), std::move(part));
    target.inputs = {.begin = taken.begin, .whole = inputs};
    return target;
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
  void lightning(const std::string& layer, LightningWeights& into);
  std::vector<WeightPart> delta_projections(const std::string& prefix) const;
  void vocabulary(PackedWeight& into, const std::string& name, std::string part);
  void mlp(const std::string& prefix, int64_t width, MlpWeights& into, const std::string& part);
  void moe(const std::string& prefix, MoeWeights& into);

 private:
  const DecoderSpec& spec_;
  const ShardSpec& place_;
  DType dtype_;
  WeightPlan& plan_;
};

void WeightList::softmax(const std::string& layer, SoftmaxWeights& into) {
  const SoftmaxMixerSpec& s = spec_.softmax;
  const std::string p = layer + "self_attn.";
  const int64_t queries = s.query_width(), projected = int64_t{s.heads} * s.query_step();
  const int64_t keys = s.key_width();
  // Where there are more ranks than key heads, neighbours hold the same one.
  const int64_t first = int64_t{s.kv_heads} * place_.tp_rank / place_.tp;
  const RowRun held{.begin = first * s.head_dim, .count = std::max(s.kv_heads / place_.tp, 1) * s.head_dim};
  std::vector<WeightPart> parts = {cut_rows(p + "q_proj.weight", projected, {share(projected)}),
                                   cut_rows(p + "k_proj.weight", keys, {held}),
                                   cut_rows(p + "v_proj.weight", keys, {held})};
  if (s.output_gate == OutputGate::kOwnProjection)
    parts.push_back(cut_rows(p + "o_gate.weight", queries, {share(queries)}));
  matrix(into.qkv, p + "qkv_proj", spec_.width, std::move(parts), "attention");
  partial(into.out, p + "o_proj", queries, share(queries),
          {{.name = p + "o_proj.weight", .rows = spec_.width}}, "attention");
  if (s.qk_norm == QkNorm::kPerHead) {
    norm(into.q_norm, p + "q_norm.weight", s.head_dim);
    norm(into.k_norm, p + "k_norm.weight", s.head_dim);
  } else if (s.qk_norm == QkNorm::kAllHeads) {
    norm_share(into.q_norm, p + "q_norm.weight", queries, share(queries));
    norm_share(into.k_norm, p + "k_norm.weight", keys, held);
  }
}

void WeightList::lightning(const std::string& layer, LightningWeights& into) {
  const LightningMixerSpec& l = spec_.lightning;
  const std::string p = layer + "self_attn.";
  const int64_t queries = l.query_width(), keys = l.key_width();
  std::vector<WeightPart> parts = {cut_rows(p + "q_proj.weight", queries, {share(queries)}),
                                   cut_rows(p + "k_proj.weight", keys, {share(keys)}),
                                   cut_rows(p + "v_proj.weight", keys, {share(keys)})};
  if (l.output_gate != OutputGate::kNone)
    parts.push_back(cut_rows(p + "z_proj.weight", queries, {share(queries)}));
  matrix(into.in, p + "in_proj", spec_.width, std::move(parts), "lightning");
  partial(into.out, p + "o_proj", queries, share(queries),
          {{.name = p + "o_proj.weight", .rows = spec_.width}}, "lightning");
  if (l.qk_norm) {
    norm(into.q_norm, p + "q_norm.weight", l.head_dim);
    norm(into.k_norm, p + "k_norm.weight", l.head_dim);
  }
  if (l.output_norm) norm_share(into.norm, p + "o_norm.weight", queries, share(queries));
}

// Rows of a projection whose rows are grouped by key head, each group [parts[0] | parts[1] | ...]: picks part
// `which` of the groups.
std::vector<RowRun> grouped_rows(const RowRun& groups, const std::vector<int64_t>& parts, size_t which) {
  int64_t group_rows = 0, before = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    group_rows += parts[i];
    if (i < which) before += parts[i];
  }
  std::vector<RowRun> runs;
  for (int64_t g = groups.begin; g < groups.begin + groups.count; ++g)
    runs.push_back({.begin = g * group_rows + before, .count = parts[which]});
  return runs;
}

// Rows of q | k | v: those of this rank's heads in each.
std::vector<RowRun> convolved_rows(const RowRun& keys, const RowRun& values, int64_t key_width) {
  return {keys, behind(keys, key_width), behind(values, 2 * key_width)};
}

std::vector<WeightPart> WeightList::delta_projections(const std::string& p) const {
  const DeltaMixerSpec& d = spec_.delta;
  const int64_t values = d.value_width();
  const int64_t per_group = d.value_heads / d.key_heads;
  const RowRun groups = share(d.key_heads);
  std::vector<WeightPart> parts;
  if (spec_.naming.grouped_delta_projections) {
    const std::vector<int64_t> qkvz = {d.key_dim, d.key_dim, per_group * d.value_dim,
                                       per_group * d.value_dim};
    const std::vector<int64_t> ba = {per_group, per_group};
    for (size_t i = 0; i < qkvz.size(); ++i) {
      parts.push_back({.name = p + "in_proj_qkvz.weight",
                       .rows = 2 * d.key_width() + 2 * values,
                       .order = grouped_rows(groups, qkvz, i)});
    }
    for (size_t i = 0; i < ba.size(); ++i) {
      parts.push_back(
          {.name = p + "in_proj_ba.weight", .rows = 2 * d.value_heads, .order = grouped_rows(groups, ba, i)});
    }
    return parts;
  }
  const RowRun heads = share(d.value_heads);
  return {cut_rows(p + "in_proj_qkv.weight", d.conv_channels(),
                   convolved_rows(share(d.key_width()), share(values), d.key_width())),
          cut_rows(p + "in_proj_z.weight", values, {share(values)}),
          cut_rows(p + "in_proj_b.weight", d.value_heads, {heads}),
          cut_rows(p + "in_proj_a.weight", d.value_heads, {heads})};
}

void WeightList::delta(const std::string& layer, DeltaWeights& into) {
  const DeltaMixerSpec& d = spec_.delta;
  const std::string p = layer + "linear_attn.";
  const int64_t values = d.value_width(), channels = d.conv_channels();
  matrix(into.in, p + "in_proj", spec_.width, delta_projections(p), "delta");
  partial(into.out, p + "out_proj", values, share(values),
          {{.name = p + "out_proj.weight", .rows = spec_.width}}, "delta");
  tensor(into.conv, p + "conv1d.weight", {channels / place_.tp, d.conv_width}, WeightFill::kMatrix, "delta");
  plan_.tensors.back().stored = {channels, 1, d.conv_width};
  plan_.tensors.back().order =
      order_of(channels, convolved_rows(share(d.key_width()), share(values), d.key_width()));
  const RowRun heads = share(d.value_heads);
  const auto per_head = [&](TensorView& head, const std::string& name, WeightFill fill) {
    tensor(head, name, {heads.count}, fill, "delta");
    plan_.tensors.back().stored = {d.value_heads};
    plan_.tensors.back().order = order_of(d.value_heads, {heads});
  };
  per_head(into.a_log, p + "A_log", WeightFill::kDecayLog);
  per_head(into.dt_bias, p + "dt_bias", WeightFill::kTimeStepBias);
  tensor(into.norm, p + "norm.weight", {d.value_dim}, WeightFill::kNormPlain, "norms");
}

void WeightList::mlp(const std::string& prefix, int64_t width, MlpWeights& into, const std::string& part) {
  matrix(into.gate_up, prefix + "gate_up_proj", spec_.width,
         {cut_rows(prefix + "gate_proj.weight", width, {share(width)}),
          cut_rows(prefix + "up_proj.weight", width, {share(width)})},
         part);
  partial(into.down, prefix + "down_proj", width, share(width),
          {{.name = prefix + "down_proj.weight", .rows = spec_.width}}, part);
}

void WeightList::moe(const std::string& prefix, MoeWeights& into) {
  const MoeSpec& m = spec_.moe;
  matrix(into.router, prefix + "gate", spec_.width, {{.name = prefix + "gate.weight", .rows = m.experts}},
         "router");
  if (m.correction_bias)
    tensor(into.bias, prefix + "e_score_correction_bias", {m.experts}, WeightFill::kMatrix, "router");
  const std::string e = prefix + "experts.", each = e + "{}.";
  const WeightNaming& names = spec_.naming;
  const int64_t width = m.expert_width, count = m.experts / place_.expert_ranks;
  const RowRun taken = place_.expert_parallel ? RowRun{0, width} : share(width);
  const auto hold_experts = [&](MatrixTarget& target, WeightPart packed) {
    target.experts = count;
    target.held = {.begin = count * place_.expert_rank, .whole = m.experts};
    target.otherwise = {std::move(packed)};
  };
  hold_experts(matrix(into.experts.gate_up, e + "gate_up_proj", spec_.width,
                      {cut_rows(each + names.gate + ".weight", width, {taken}),
                       cut_rows(each + names.up + ".weight", width, {taken})},
                      "experts"),
               cut_rows(e + "gate_up_proj", 2 * width, {taken, behind(taken, width)}));
  hold_experts(partial(into.experts.down, e + "down_proj", width, taken,
                       {{.name = each + names.down + ".weight", .rows = spec_.width}}, "experts"),
               {.name = e + "down_proj", .rows = spec_.width});
  if (m.shared_width == 0) return;
  mlp(prefix + "shared_expert.", m.shared_width, into.shared, "shared expert");
  matrix(into.shared_gate, prefix + "shared_expert_gate", spec_.width,
         {{.name = prefix + "shared_expert_gate.weight", .rows = 1}}, "shared expert");
}

// Every rank has equally many rows, so that logits lie side by side; the last one's end in zeros.
void WeightList::vocabulary(PackedWeight& into, const std::string& name, std::string part) {
  const int64_t rows = ceil_div(spec_.vocab, place_.tp), begin = rows * place_.tp_rank;
  const int64_t there = std::min(rows, spec_.vocab - begin);
  matrix(into, name, spec_.width,
         {cut_rows(name + ".weight", spec_.vocab, {{begin, there}, {kZeroRows, rows - there}})},
         std::move(part));
}

// How an expert may spell its gate, up and down matrices.
struct ExpertSpelling {
  std::string_view gate, up, down;
};
constexpr ExpertSpelling kExpertSpellings[] = {{"gate_proj", "up_proj", "down_proj"}, {"w1", "w3", "w2"}};
constexpr std::string_view kPrefixes[] = {"model.language_model.", "language_model.model.", "model."};
constexpr std::string_view kHeads[] = {"lm_head", "language_model.lm_head"};
constexpr std::string_view kMoeFolders[] = {"mlp.", "block_sparse_moe."};

// What `name`, of a tensor of the first expert of any layer, shows of the spelling of experts.
void adopt_expert(std::string_view name, WeightNaming& naming) {
  for (const std::string_view folder : kMoeFolders) {
    const std::string experts = concat(".", folder, "experts.");
    const size_t at = name.find(experts);
    if (at == name.npos) continue;
    naming.moe = folder;
    for (const ExpertSpelling& spelling : kExpertSpellings) {
      if (!name.substr(at + experts.size()).starts_with(concat("0.", spelling.gate, "."))) continue;
      naming.gate = spelling.gate;
      naming.up = spelling.up;
      naming.down = spelling.down;
    }
  }
}

}  // namespace

void adopt_names(const Checkpoint& checkpoint, WeightNaming& naming) {
  for (const std::string_view prefix : kPrefixes) {
    if (!checkpoint.contains(concat(prefix, "embed_tokens.weight"))) continue;
    naming.prefix = prefix;
    break;
  }
  for (const std::string_view head : kHeads) {
    if (!checkpoint.contains(concat(head, ".weight"))) continue;
    naming.head = head;
    break;
  }
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    if (tensor.name.starts_with(naming.prefix)) adopt_expert(tensor.name, naming);
  }
}

void adopt_norms(const Checkpoint& checkpoint, DecoderSpec& spec) {
  if (spec.count(Mixer::kLightning) == 0) return;
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const std::string name = concat(spec.naming.prefix, "layers.", i, ".self_attn.q_norm.weight");
    if (spec.layers[i].mixer == Mixer::kSoftmax && checkpoint.contains(name))
      spec.softmax.qk_norm = QkNorm::kPerHead;
  }
}

WeightPlan list_weights(const DecoderSpec& spec, const ShardSpec& place, DType dtype,
                        DecoderWeights& weights) {
  WeightPlan plan;
  plan.family = spec.family;
  const std::string& prefix = spec.naming.prefix;
  WeightList list(spec, place, dtype, plan);
  list.vocabulary(weights.embedding, prefix + "embed_tokens", "embedding");
  // A tied embedding is also the head, so it is packed for products; otherwise rows are only looked up.
  if (!spec.tied_head) {
    plan.matrices.back().layout = WeightLayout::kRowMajor;
    list.vocabulary(weights.head, spec.naming.head, "head");
  }
  list.norm(weights.final_norm, prefix + "norm.weight", spec.width);
  weights.layers.resize(spec.layers.size());
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    const std::string layer = concat(prefix, "layers.", i, ".");
    LayerWeights& into = weights.layers[i];
    list.norm(into.input_norm, layer + "input_layernorm.weight", spec.width);
    list.norm(into.post_norm, layer + "post_attention_layernorm.weight", spec.width);
    switch (spec.layers[i].mixer) {
      case Mixer::kSoftmax: list.softmax(layer, into.softmax); break;
      case Mixer::kDelta: list.delta(layer, into.delta); break;
      case Mixer::kLightning: list.lightning(layer, into.lightning); break;
    }
    if (spec.layers[i].mlp == Mlp::kDense) {
      list.mlp(layer + "mlp.", spec.dense_width, into.dense, "mlp");
    } else {
      list.moe(layer + spec.naming.moe, into.moe);
    }
  }
  const std::string unread_head = spec.tied_head ? spec.naming.head + ".weight" : "";
  plan.may_ignore = [unread_head, skipped = spec.naming.skipped](std::string_view name) {
    return std::any_of(skipped.begin(), skipped.end(),
                       [name](const std::string& begin) { return name.starts_with(begin); }) ||
           name == unread_head || name.ends_with(".rotary_emb.inv_freq");
  };
  return plan;
}

}  // namespace lockstep
