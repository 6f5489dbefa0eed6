#include "engine/cost_model.h"

#include <algorithm>
#include <cmath>

namespace lockstep {
namespace {

// Sums over the sequences of a step.
struct StepSums {
  double rows = 0;
  double sequences = 0;
  double continued = 0;  // sequences whose state exists before this step
  double cached = 0;     // tokens looked at, each sequence's once
  double visible = 0;    // pairs of a row and a token it looks at
};

StepSums sums_of(const StepShape& shape) {
  StepSums sums;
  for (const SequenceShape& sequence : shape.sequences) {
    const auto rows = static_cast<double>(sequence.rows), length = static_cast<double>(sequence.length);
    const double before = length - rows;
    sums.rows += rows;
    sums.sequences += 1;
    sums.continued += before > 0 ? 1 : 0;
    sums.cached += length;
    sums.visible += rows * before + rows * (rows + 1) / 2;
  }
  return sums;
}

class CostList {
 public:
  CostList(const Model& model, const StepShape& shape)
      : spec_(model.spec),
        sums_(sums_of(shape)),
        logits_rows_(static_cast<double>(shape.logits_rows)),
        weight_bytes_(static_cast<double>(size_of(model.weight_dtype))),
        cache_bytes_(static_cast<double>(size_of(model.cache_dtype))),
        bf16_(model.input == MatmulInput::kBF16) {}

  std::vector<OpCost> make() {
    const double softmax = spec_.count(Mixer::kSoftmax), delta = spec_.count(Mixer::kDelta);
    const double lightning = spec_.count(Mixer::kLightning);
    const double dense = spec_.count(Mlp::kDense), moe = spec_.count(Mlp::kMoe);
    const double width = spec_.width;
    costs_.push_back({.op = "embedding",
                      .stage = "embedding",
                      .read = sums_.rows * width * weight_bytes_,
                      .weights = true});
    if (softmax > 0) add_softmax(softmax);
    if (delta > 0) add_delta(delta);
    if (lightning > 0) add_lightning(lightning);
    if (dense > 0) {
      add_product("gate_up", dense, 2.0 * spec_.dense_width, width, sums_.rows);
      add_product("down", dense, width, spec_.dense_width, sums_.rows);
    }
    if (moe > 0) add_moe(moe);
    if (logits_rows_ > 0) add_product("logits", 1, spec_.vocab, width, logits_rows_);
    return std::move(costs_);
  }

 private:
  void add_product(std::string_view stage, double layers, double n, double k, double rows) {
    costs_.push_back({.op = "linear",
                      .stage = stage,
                      .read = layers * n * k * weight_bytes_,
                      .flop = layers * 2 * rows * n * k,
                      .weights = true,
                      .bf16 = bf16_});
  }

  void add_softmax(double layers) {
    const SoftmaxMixerSpec& s = spec_.softmax;
    const double queries = double{1} * s.heads * s.head_dim, keys = double{1} * s.kv_heads * s.head_dim;
    add_product("qkv_proj", layers, s.projected_width(), spec_.width, sums_.rows);
    const double token_bytes = 2 * keys * cache_bytes_;
    costs_.push_back({.op = "store_kv", .stage = "store_kv", .written = layers * sums_.rows * token_bytes});
    costs_.push_back({.op = "paged_attention",
                      .stage = "attention",
                      .read = layers * sums_.cached * token_bytes,
                      .flop = layers * 4 * sums_.visible * queries,
                      .bf16 = bf16_});
    add_product("o_proj", layers, spec_.width, queries, sums_.rows);
  }

  void add_delta(double layers) {
    const DeltaMixerSpec& d = spec_.delta;
    const double channels = d.conv_channels(), values = d.value_width();
    add_product("in_proj", layers, channels + values + 2.0 * d.value_heads, spec_.width, sums_.rows);
    const double conv_bytes = channels * (d.conv_width - 1) * 4;
    const double state = values * d.key_dim;  // elements
    costs_.push_back({.op = "causal_conv",
                      .stage = "conv",
                      .read = layers * sums_.continued * conv_bytes,
                      .written = layers * sums_.sequences * conv_bytes,
                      .flop = layers * 2 * sums_.rows * channels * d.conv_width});
    costs_.push_back({.op = "gated_delta",
                      .stage = "delta",
                      .read = layers * sums_.continued * state * 4,
                      .written = layers * sums_.sequences * state * 4,
                      .flop = layers * 6 * sums_.rows * state});
    add_product("out_proj", layers, spec_.width, values, sums_.rows);
  }

  void add_lightning(double layers) {
    const LightningMixerSpec& l = spec_.lightning;
    const double queries = l.query_width();
    const double state = queries * l.head_dim;  // elements
    add_product("in_proj", layers, l.projected_width(), spec_.width, sums_.rows);
    costs_.push_back({.op = "lightning",
                      .stage = "lightning",
                      .read = layers * sums_.continued * state * 4,
                      .written = layers * sums_.sequences * state * 4,
                      .flop = layers * 5 * sums_.rows * state});
    add_product("out_proj", layers, spec_.width, queries, sums_.rows);
  }

  void add_moe(double layers) {
    const MoeSpec& m = spec_.moe;
    const double width = spec_.width, experts = m.experts;
    const double distinct = experts * (1 - std::pow(1 - m.choices / experts, sums_.rows));
    add_product("router", layers, experts, width, sums_.rows);
    const auto add_experts = [&](std::string_view op, double n, double k) {
      costs_.push_back({.op = op,
                        .stage = "experts",
                        .read = layers * distinct * n * k * weight_bytes_,
                        .flop = layers * 2 * sums_.rows * m.choices * n * k,
                        .weights = true,
                        .bf16 = bf16_});
    };
    add_experts("moe_gate_up", 2.0 * m.expert_width, width);
    add_experts("moe_down", width, m.expert_width);
    if (m.shared_width == 0) return;
    add_product("shared_gate", layers, 1, width, sums_.rows);
    add_product("shared_gate_up", layers, 2.0 * m.shared_width, width, sums_.rows);
    add_product("shared_down", layers, width, m.shared_width, sums_.rows);
  }

  const DecoderSpec& spec_;
  const StepSums sums_;
  const double logits_rows_;
  const double weight_bytes_;
  const double cache_bytes_;
  const bool bf16_;
  std::vector<OpCost> costs_;
};

}  // namespace

int64_t StepShape::rows() const {
  int64_t total = 0;
  for (const SequenceShape& sequence : sequences) total += sequence.rows;
  return total;
}

StepShape shape_of(const StepPlan& plan) {
  const auto starts = plan.get(field::query_start_loc);
  const auto lengths = plan.get(field::seq_lens);
  StepShape shape;
  shape.logits_rows = plan.scalar(field::num_logits_rows).get();
  const auto count = static_cast<size_t>(plan.scalar(field::num_seqs).get());
  for (size_t i = 0; i < count; ++i) {
    shape.sequences.push_back({.rows = starts[i + 1].get() - starts[i].get(), .length = lengths[i].get()});
  }
  return shape;
}

std::vector<OpCost> step_costs(const Model& model, const StepShape& shape) {
  return CostList(model, shape).make();
}

std::string_view RoofTime::binds() const {
  if (flop_s >= read_s && flop_s >= copy_s) return "flop";
  return copy_s > read_s ? "copy" : "read";
}

RoofTime& RoofTime::operator+=(const RoofTime& other) {
  read_s += other.read_s;
  copy_s += other.copy_s;
  flop_s += other.flop_s;
  return *this;
}

RoofTime roof_time(const OpCost& cost, const Roofs& roofs) {
  const double paired = std::min(cost.read, cost.written);
  const double read_s = (cost.read - paired) / (roofs.read_gb_per_s * 1e9);
  const double copy_s = (cost.written + paired) / (roofs.copy_gb_per_s * 1e9);
  const double flop_s = cost.flop / ((cost.bf16 ? roofs.bf16_gflop_per_s : roofs.f32_gflop_per_s) * 1e9);
  if (flop_s >= read_s + copy_s) return {.flop_s = flop_s};
  return {.read_s = read_s, .copy_s = copy_s};
}

RoofTime roof_time(std::span<const OpCost> costs, const Roofs& roofs) {
  RoofTime sum;
  for (const OpCost& cost : costs) sum += roof_time(cost, roofs);
  return sum;
}

}  // namespace lockstep
