// The choice of experts, the sum over a row's choices, and, where weights are not made for products of groups
// (moe_grouped_cuda.cu), experts choice by choice, with every product of a row in an order of its own.
#include "kernels/common/device_math.cuh"
#include "kernels/cuda_kernels.h"
#include "kernels/linear/load_run.cuh"
#include "kernels/linear/packed_offset.cuh"
#include "kernels/moe/experts.cuh"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
constexpr float kNothing = -INFINITY;

// routing_sigmoid() of moe_sigmoid.h, operation by operation.
__device__ float routing_sigmoid(float x) {
  const double y = -static_cast<double>(x);
  const double low = y > -700.0 ? y : -700.0;
  const double clamped = low < 700.0 ? low : 700.0;
  const double shifted = __fma_rn(clamped, 0x1.71547652b82fep0, 0x1.8p52);
  const double n = __dsub_rn(shifted, 0x1.8p52);
  double r = __fma_rn(n, -0x1.62e42fefa3800p-1, clamped);
  r = __fma_rn(n, -0x1.ef35793c76730p-45, r);
  double p = 1.0 / 3628800;
  p = __fma_rn(p, r, 1.0 / 362880);
  p = __fma_rn(p, r, 1.0 / 40320);
  p = __fma_rn(p, r, 1.0 / 5040);
  p = __fma_rn(p, r, 1.0 / 720);
  p = __fma_rn(p, r, 1.0 / 120);
  p = __fma_rn(p, r, 1.0 / 24);
  p = __fma_rn(p, r, 1.0 / 6);
  p = __fma_rn(p, r, 0.5);
  p = __fma_rn(p, r, 1.0);
  p = __fma_rn(p, r, 1.0);
  const auto power = (static_cast<unsigned long long>(__double_as_longlong(shifted)) + 1023) << 52;
  const double e = __dmul_rn(p, __longlong_as_double(static_cast<long long>(power)));
  const auto sigmoid = static_cast<float>(__ddiv_rn(1.0, __dadd_rn(1.0, e)));
  return x == x ? sigmoid : x;
}

// Larger for the larger rank, ties to the lower expert; NaN below everything, and still an expert.
__device__ uint64_t choice_key(float rank, int64_t expert) {
  const uint32_t bits = __float_as_uint(rank == 0.0f ? 0.0f : rank);
  const uint32_t order = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return uint64_t{isnan(rank) ? 0u : order} << 32 | (0xFFFFFFFFu - static_cast<uint32_t>(expert));
}

// The largest key below `above` of a row.
template <typename Rank>
__device__ uint64_t next_key(int64_t experts, uint64_t above, Rank&& rank_of) {
  uint64_t best = 0;
  for (int64_t x = threadIdx.x; x < experts; x += kWarp) {
    const uint64_t key = choice_key(rank_of(x), x);
    if (key < above && key > best) best = key;
  }
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const uint64_t other = __shfl_xor_sync(kAllLanes, best, offset);
    best = other > best ? other : best;
  }
  return best;
}

__device__ int64_t expert_of(uint64_t key) {
  return static_cast<int64_t>(0xFFFFFFFFu - static_cast<uint32_t>(key));
}

__device__ void route_by_softmax(const MoeRouteArgs& args, const float* logits, int32_t* ids,
                                 float* weights) {
  const int64_t experts = dim(args.logits, 1), choices = dim(args.expert_ids, 1);
  float largest = kNothing;
  for (int64_t x = threadIdx.x; x < experts; x += kWarp) largest = fmaxf(largest, logits[x]);
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, offset));
  const auto weight_of = [&](int64_t x) { return exp(double{logits[x]} - double{largest}); };
  double sum = 0.0, chosen = 0.0;
  for (int64_t x = threadIdx.x; x < experts; x += kWarp) sum += weight_of(x);
  sum = warp_sum(sum);
  uint64_t key = ~uint64_t{0};
  for (int64_t j = 0; j < choices; ++j) {
    key = next_key(experts, key, [&](int64_t x) { return logits[x]; });
    if (threadIdx.x == 0) ids[j] = static_cast<int32_t>(expert_of(key));
    chosen += weight_of(expert_of(key));
  }
  __syncwarp();
  // A NaN sum makes every weight NaN; dividing by the chosen alone could hide a NaN among the others.
  const double divisor = args.normalise && !isnan(sum) ? chosen : sum;
  for (int64_t j = threadIdx.x; j < choices; j += kWarp)
    weights[j] = static_cast<float>(weight_of(ids[j]) / divisor);
}

__device__ void route_by_sigmoid(const MoeRouteArgs& args, const float* logits, int32_t* ids,
                                 float* weights) {
  const int64_t experts = dim(args.logits, 1), choices = dim(args.expert_ids, 1);
  const auto* bias = static_cast<const float*>(args.bias.data);
  const auto rank_of = [&](int64_t x) {
    const float score = routing_sigmoid(logits[x]);
    return bias == nullptr ? score : __fadd_rn(score, bias[x]);
  };
  bool is_nan = false;
  for (int64_t x = threadIdx.x; x < experts; x += kWarp) is_nan = is_nan || isnan(rank_of(x));
  is_nan = __any_sync(kAllLanes, is_nan);
  uint64_t key = ~uint64_t{0};
  float sum = 0.0f;
  for (int64_t j = 0; j < choices; ++j) {
    key = next_key(experts, key, rank_of);
    if (threadIdx.x == 0) ids[j] = static_cast<int32_t>(expert_of(key));
    sum = __fadd_rn(sum, routing_sigmoid(logits[expert_of(key)]));
  }
  __syncwarp();
  for (int64_t j = threadIdx.x; j < choices; j += kWarp) {
    const float score = routing_sigmoid(logits[ids[j]]);
    weights[j] = is_nan ? __int_as_float(0x7FC00000) : args.normalise ? __fdiv_rn(score, sum) : score;
  }
}

// One warp per row.
__global__ void __launch_bounds__(kWarp) route_rows(const __grid_constant__ MoeRouteArgs args) {
  const int64_t t = blockIdx.x;
  auto* ids = row<int32_t>(args.expert_ids, t);
  float* weights = row<float>(args.expert_weights, t);
  if (t < live(args.num_rows, dim(args.logits, 0))) {
    const float* logits = row<const float>(args.logits, t);
    args.scoring == MoeScoring::kSigmoid ? route_by_sigmoid(args, logits, ids, weights)
                                         : route_by_softmax(args, logits, ids, weights);
    return;
  }
  for (int64_t j = threadIdx.x; j < dim(args.expert_ids, 1); j += kWarp) {
    ids[j] = -1;
    weights[j] = 0.0f;
  }
}

// x · row n of one matrix, in every lane. The order depends on the number of inputs alone.
template <typename W>
__device__ float dot(const PackedWeight& weight, int64_t matrix, int64_t n, const float* x,
                     MatmulInput input) {
  const W* weights = static_cast<const W*>(weight.data) + matrix * weight.expert_stride;
  const bool aligned = weight.layout == WeightLayout::kRowMajor && weight.k % kRun == 0 &&
                       reinterpret_cast<uintptr_t>(weights) % 16 == 0;
  float sum = 0.0f;
  for (int64_t k = int64_t{threadIdx.x % kWarp} * kRun; k < weight.k; k += int64_t{kWarp} * kRun) {
    float w[kRun];
    if (aligned) {
      load_run<true>(weights + n * weight.k, k, weight.k, w);
    } else {
      for (int i = 0; i < kRun; ++i)
        w[i] = k + i < weight.k ? to_float(weights[offset_in<W>(weight, n, k + i)]) : 0.0f;
    }
    for (int i = 0; i < kRun && k + i < weight.k; ++i) {
      const float entering = input == MatmulInput::kBF16 ? to_float(__float2bfloat16_rn(x[k + i])) : x[k + i];
      sum = __fmaf_rn(entering, w[i], sum);
    }
  }
  return warp_sum(sum);
}

// One warp per choice and output.
template <typename W>
__global__ void __launch_bounds__(kThreads) gate_and_up(const __grid_constant__ Experts of) {
  const MoeExpertsArgs& args = of.args;
  const int64_t choices = dim(args.expert_ids, 1), choice = blockIdx.x, width = args.down.k;
  const int64_t f = int64_t{blockIdx.y} * kWarps + threadIdx.x / kWarp;
  const int64_t matrix = of.matrix_of(choice / choices, choice % choices);
  if (matrix < 0 || f >= width) return;
  const float* x = row<const float>(args.x, choice / choices);
  const float gate = dot<W>(args.gate_up, matrix, f, x, args.input);
  const float up = dot<W>(args.gate_up, matrix, width + f, x, args.input);
  if (threadIdx.x % kWarp == 0)
    of.region(of.at.activation)[choice * width + f] = gate / (1.0f + expf(-gate)) * up;
}

template <typename W>
__global__ void __launch_bounds__(kThreads) down(const __grid_constant__ Experts of) {
  const MoeExpertsArgs& args = of.args;
  const int64_t choices = dim(args.expert_ids, 1), choice = blockIdx.x;
  const int64_t e = int64_t{blockIdx.y} * kWarps + threadIdx.x / kWarp;
  const int64_t matrix = of.matrix_of(choice / choices, choice % choices);
  if (matrix < 0 || e >= args.down.n) return;
  const float* x = of.region(of.at.activation) + choice * args.down.k;
  const float sum = dot<W>(args.down, matrix, e, x, args.input);
  if (threadIdx.x % kWarp == 0) of.region(of.at.products)[choice * args.down.n + e] = sum;
}

__global__ void __launch_bounds__(kThreads) combine(const __grid_constant__ Experts of) {
  const MoeExpertsArgs& args = of.args;
  const int64_t t = blockIdx.x, e = int64_t{blockIdx.y} * kThreads + threadIdx.x;
  const int64_t choices = dim(args.expert_ids, 1), width = args.down.n;
  if (e >= width) return;
  float sum = 0.0f;
  for (int64_t j = 0; j < choices; ++j) {
    const int64_t matrix = of.matrix_of(t, j);
    if (matrix == kNotHere) continue;
    const float weight = row<const float>(args.expert_weights, t)[j];
    sum += matrix != kNoExpert ? weight * of.region(of.at.products)[(t * choices + j) * width + e]
                               : __int_as_float(0x7FC00000);
  }
  row<float>(args.out, t)[e] = sum;
}

int64_t blocks_for(int64_t outputs, int64_t each) { return (outputs + each - 1) / each; }

}  // namespace

void moe_route(const MoeRouteArgs& args, Worker worker) {
  launch_grid(worker, route_rows, {blocks_of(args.logits.dim(0)), kWarp}, args);
}

void moe_gate_up_by_row(const MoeExpertsArgs& args, Worker worker) {
  if (goes_in_groups(args)) return grouped_gate_up(args, worker);
  const Experts of{args, moe_workspace(args)};
  with_element(args.gate_up.dtype, [&]<typename W>() {
    launch_grid(worker, gate_and_up<W>,
                {blocks_of(args.expert_ids.elements(), blocks_for(args.down.k, kWarps)), kThreads}, of);
  });
}

void moe_down_by_row(const MoeExpertsArgs& args, Worker worker) {
  if (goes_in_groups(args)) return grouped_down(args, worker);
  const Experts of{args, moe_workspace(args)};
  with_element(args.down.dtype, [&]<typename W>() {
    launch_grid(worker, down<W>,
                {blocks_of(args.expert_ids.elements(), blocks_for(args.down.n, kWarps)), kThreads}, of);
  });
}

void moe_combine(const MoeExpertsArgs& args, Worker worker) {
  const Experts of{args, moe_workspace(args)};
  launch_grid(worker, combine, {blocks_of(args.x.dim(0), blocks_for(args.down.n, kThreads)), kThreads}, of);
}

}  // namespace lockstep::cuda
