// moe_route over a vector type.
#pragma once

#include "kernels/common/live_rows.h"
#include "kernels/common/simd_math.h"
#include "kernels/common/simd_rows.h"
#include "kernels/moe/moe_kernels.h"
#include "kernels/moe/moe_sigmoid.h"

namespace lockstep {

// The k experts of the largest logits by descending logit, the lower expert first among equals. A NaN logit
// beats none and is beaten by none: the ids stay valid and distinct.
[[gnu::always_inline]] inline void choose_experts(const float* logits, int64_t experts, int32_t* ids,
                                                  int64_t choices) {
  int64_t count = 0;
  for (int64_t x = 0; x < experts; ++x) {
    if (count == choices && !(logits[x] > logits[ids[count - 1]])) continue;
    int64_t place = count < choices ? count++ : choices - 1;
    for (; place > 0 && logits[x] > logits[ids[place - 1]]; --place) ids[place] = ids[place - 1];
    ids[place] = static_cast<int32_t>(x);
  }
}

template <typename V>
void route_row(const float* logits, int64_t experts, int32_t* ids, float* weights, int64_t choices,
               bool normalise) {
  choose_experts(logits, experts, ids, choices);
  float largest = logits[0];
  for (int64_t x = 1; x < experts; ++x) largest = logits[x] > largest ? logits[x] : largest;
  const auto peak = V::set1(largest);
  auto sums = V::zero();
  for_lanes<V>(experts, [&](int64_t x, int64_t n) {
    float part[V::kWidth];  // lanes past the last expert add exp(-inf) = 0
    for (int64_t i = 0; i < V::kWidth; ++i) part[i] = i < n ? logits[x + i] : -__builtin_inff();
    sums = V::add(sums, simd_exp<V>(V::sub(V::load(part), peak)));
  });
  const float sum = V::reduce_add(sums);
  float chosen = 0;
  for (int64_t j = 0; j < choices; ++j) weights[j] = logits[ids[j]];
  for_lanes<V>(choices, [&](int64_t j, int64_t n) {
    store_lanes<V>(weights + j, simd_exp<V>(V::sub(load_lanes<V>(weights + j, n), peak)), n);
  });
  for (int64_t j = 0; j < choices; ++j) chosen += weights[j];
  // A NaN sum makes every weight NaN; dividing by the chosen alone could hide a NaN among the others.
  const float divisor = normalise && sum == sum ? chosen : sum;
  for (int64_t j = 0; j < choices; ++j) weights[j] /= divisor;
}

// The k experts of the largest sigmoid(logit) + bias as above, their sigmoids as weights. What is chosen so
// far is kept in the outputs, from which its sums come out as they were. Scores in blocks, apart
// from the choosing, so that the chains of their operations overlap.
template <typename V>
void sigmoid_row(const MoeRouteArgs& args, const float* logits, int32_t* ids, float* weights) {
  constexpr int64_t kBlock = 64;
  const auto* bias = static_cast<const float*>(args.bias.data);
  const int64_t experts = args.logits.dim(1), choices = args.expert_ids.dim(1);
  const auto rank = [bias](float score, int64_t x) { return bias != nullptr ? score + bias[x] : score; };
  int64_t count = 0;
  bool is_nan = false;
  for (int64_t begin = 0; begin < experts; begin += kBlock) {
    const int64_t n = experts - begin < kBlock ? experts - begin : kBlock;
    float scores[kBlock];
    for (int64_t i = 0; i < n; ++i) scores[i] = routing_sigmoid(logits[begin + i]);
    for (int64_t i = 0; i < n; ++i) {
      const float key = rank(scores[i], begin + i);
      is_nan = is_nan || key != key;
      if (count == choices && !(key > rank(weights[count - 1], ids[count - 1]))) continue;
      int64_t place = count < choices ? count++ : choices - 1;
      for (; place > 0 && key > rank(weights[place - 1], ids[place - 1]); --place) {
        ids[place] = ids[place - 1];
        weights[place] = weights[place - 1];
      }
      ids[place] = static_cast<int32_t>(begin + i);
      weights[place] = scores[i];
    }
  }
  float sum = 0;
  for (int64_t j = 0; j < choices; ++j) sum += weights[j];
  for (int64_t j = 0; j < choices; ++j) {
    if (args.normalise) weights[j] /= sum;
    if (is_nan) weights[j] = __builtin_nanf("");
  }
}

template <typename V>
void route(const MoeRouteArgs& args, Worker worker) {
  const int64_t choices = args.expert_ids.dim(1);
  const int64_t live = live_rows(args.num_rows, args.logits.dim(0));
  const Worker::Range rows = worker.share(args.logits.dim(0));
  for (int64_t t = rows.begin; t < rows.end; ++t) {
    const float* logits = static_cast<const float*>(args.logits.data) + t * args.logits.stride(0);
    int32_t* ids = static_cast<int32_t*>(args.expert_ids.data) + t * args.expert_ids.stride(0);
    float* weights = static_cast<float*>(args.expert_weights.data) + t * args.expert_weights.stride(0);
    if (t < live && args.scoring == MoeScoring::kSigmoid) {
      sigmoid_row<V>(args, logits, ids, weights);
      continue;
    }
    if (t < live) {
      route_row<V>(logits, args.logits.dim(1), ids, weights, choices, args.normalise);
      continue;
    }
    for (int64_t j = 0; j < choices; ++j) {
      ids[j] = -1;
      weights[j] = 0;
    }
  }
}

}  // namespace lockstep
