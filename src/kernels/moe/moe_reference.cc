// The oracle of moe_route and moe_experts: plain loops, choice by choice, sums and exp in f64.
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/common/live_rows.h"
#include "kernels/moe/moe_kernels.h"
#include "kernels/moe/moe_sigmoid.h"

namespace lockstep::reference {
namespace {

// The unused expert of the largest logit, the lowest among equals; valid also where all are NaN.
int32_t next_choice(const float* logits, int64_t experts, const int32_t* chosen, int64_t count) {
  int32_t best = -1;
  for (int32_t x = 0; x < experts; ++x) {
    bool used = false;
    for (int64_t j = 0; j < count; ++j) used = used || chosen[j] == x;
    if (!used && (best < 0 || logits[x] > logits[best])) best = x;
  }
  return best;
}

// The sums are of f32 and in the order of the choices, as every kernel adds them up.
void sigmoid_row(const MoeRouteArgs& args, const float* logits, int32_t* ids, float* weights) {
  const int64_t experts = args.logits.dim(1), choices = args.expert_ids.dim(1);
  std::vector<float> scores, ranks;
  bool is_nan = false;
  for (int64_t x = 0; x < experts; ++x) {
    scores.push_back(routing_sigmoid(logits[x]));
    ranks.push_back(args.bias ? scores.back() + args.bias.as<const float>()[x] : scores.back());
    is_nan = is_nan || std::isnan(ranks.back());
  }
  float sum = 0;
  for (int64_t j = 0; j < choices; ++j) {
    ids[j] = next_choice(ranks.data(), experts, ids, j);
    sum += scores[static_cast<size_t>(ids[j])];
  }
  for (int64_t j = 0; j < choices; ++j) {
    const float score = scores[static_cast<size_t>(ids[j])];
    weights[j] = is_nan ? std::numeric_limits<float>::quiet_NaN() : args.normalise ? score / sum : score;
  }
}

void route_row(const MoeRouteArgs& args, const float* logits, int32_t* ids, float* weights) {
  const int64_t experts = args.logits.dim(1);
  const int64_t choices = args.expert_ids.dim(1);
  float largest = logits[0];
  for (int64_t x = 1; x < experts; ++x) largest = std::fmax(largest, logits[x]);
  double sum = 0;
  for (int64_t x = 0; x < experts; ++x) sum += std::exp(static_cast<double>(logits[x]) - largest);
  double chosen = 0;
  for (int64_t j = 0; j < choices; ++j) {
    ids[j] = next_choice(logits, experts, ids, j);
    chosen += std::exp(static_cast<double>(logits[ids[j]]) - largest);
  }
  // A NaN sum makes every weight NaN; dividing by the chosen alone could hide a NaN among the others.
  const double divisor = args.normalise && !std::isnan(sum) ? chosen : sum;
  for (int64_t j = 0; j < choices; ++j) {
    weights[j] = static_cast<float>(std::exp(static_cast<double>(logits[ids[j]]) - largest) / divisor);
  }
}

// What a grouped product needs of one choice.
struct Product {
  const PackedWeight& weight;
  int64_t expert;
  const float* x;
  MatmulInput input;
};

double dot(const Product& product, int64_t column) {
  return with_float_type(product.weight.dtype, [&]<typename W>() {
    const W* weights =
        static_cast<const W*>(product.weight.data) + product.expert * product.weight.expert_stride;
    double sum = 0;
    for (int64_t k = 0; k < product.weight.k; ++k) {
      const float x =
          product.input == MatmulInput::kBF16 ? static_cast<float>(BFloat16(product.x[k])) : product.x[k];
      sum += static_cast<double>(x) *
             static_cast<double>(static_cast<float>(weights[packed_offset(product.weight, column, k)]));
    }
    return sum;
  });
}

float* region(const MoeExpertsArgs& args, int64_t offset) {
  return reinterpret_cast<float*>(static_cast<char*>(args.workspace.data) + offset);
}

// The matrix of a choice; below zero where it takes none.
int64_t expert_of(const MoeExpertsArgs& args, int64_t choice) {
  const int64_t choices = args.expert_ids.dim(1);
  const int64_t t = choice / choices;
  if (t >= moe_rows(args)) return kNotHere;
  return moe_matrix(args,
                    args.expert_ids.as<const int32_t>()[t * args.expert_ids.stride(0) + choice % choices]);
}

}  // namespace

void moe_route(const MoeRouteArgs& args, Worker worker) {
  const int64_t live = live_rows(args.num_rows, args.logits.dim(0));
  const Worker::Range rows = worker.share(args.logits.dim(0));
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    int32_t* ids = args.expert_ids.as<int32_t>() + t * args.expert_ids.stride(0);
    float* weights = args.expert_weights.as<float>() + t * args.expert_weights.stride(0);
    if (t < live) {
      const float* logits = args.logits.as<const float>() + t * args.logits.stride(0);
      const bool sigmoid = args.scoring == MoeScoring::kSigmoid;
      sigmoid ? sigmoid_row(args, logits, ids, weights) : route_row(args, logits, ids, weights);
      continue;
    }
    for (int64_t j = 0; j < args.expert_ids.dim(1); ++j) {
      ids[j] = -1;
      weights[j] = 0;
    }
  }
}

void moe_gate_up(const MoeExpertsArgs& args, Worker worker) {
  const int64_t choices = args.expert_ids.dim(1);
  const int64_t width = args.down.k;
  const Worker::Range range = worker.share(args.x.dim(0) * choices);
  float* activation = region(args, moe_workspace(args).activation);
  for (int64_t choice = range.begin; choice < range.end; ++choice) {
    const int64_t expert = expert_of(args, choice);
    if (expert < 0) continue;
    const float* x = args.x.as<const float>() + choice / choices * args.x.stride(0);
    const Product product{.weight = args.gate_up, .expert = expert, .x = x, .input = args.input};
    for (int64_t f = 0; f < width; ++f) {
      const double gate = dot(product, f);
      const double up = dot(product, width + f);
      activation[choice * width + f] = static_cast<float>(gate / (1.0 + std::exp(-gate)) * up);
    }
  }
}

void moe_down(const MoeExpertsArgs& args, Worker worker) {
  const int64_t choices = args.expert_ids.dim(1);
  const Worker::Range range = worker.share(args.x.dim(0) * choices);
  const MoeWorkspace at = moe_workspace(args);
  for (int64_t choice = range.begin; choice < range.end; ++choice) {
    const int64_t expert = expert_of(args, choice);
    if (expert < 0) continue;
    const float* activation = region(args, at.activation) + choice * args.down.k;
    const Product product{.weight = args.down, .expert = expert, .x = activation, .input = args.input};
    float* out = region(args, at.products) + choice * args.down.n;
    for (int64_t e = 0; e < args.down.n; ++e) out[e] = static_cast<float>(dot(product, e));
  }
}

void moe_combine(const MoeExpertsArgs& args, Worker worker) {
  const int64_t live = moe_rows(args);
  const int64_t choices = args.expert_ids.dim(1);
  const int64_t width = args.down.n;
  const float* products = region(args, moe_workspace(args).products);
  const Worker::Range rows = worker.share(args.x.dim(0));
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    const int32_t* ids = args.expert_ids.as<const int32_t>() + t * args.expert_ids.stride(0);
    const float* weights = args.expert_weights.as<const float>() + t * args.expert_weights.stride(0);
    float* out = args.out.as<float>() + t * args.out.stride(0);
    for (int64_t e = 0; e < width; ++e) out[e] = 0;
    for (int64_t j = 0; t < live && j < choices; ++j) {
      const int64_t matrix = moe_matrix(args, ids[j]);
      if (matrix == kNotHere) continue;
      const float* product = products + (t * choices + j) * width;
      for (int64_t e = 0; e < width; ++e) {
        out[e] += matrix != kNoExpert ? weights[j] * product[e] : std::numeric_limits<float>::quiet_NaN();
      }
    }
  }
}

}  // namespace lockstep::reference
